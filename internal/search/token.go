// Package search finds records by words. A text is taken apart here and not by
// the databases, so that both find the same: words in any order and form, in
// English, Russian and Chinese.
package search

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/blevesearch/bleve/v2/analysis"
	"github.com/blevesearch/bleve/v2/analysis/lang/cjk"
	"github.com/blevesearch/bleve/v2/analysis/lang/en"
	"github.com/blevesearch/bleve/v2/analysis/lang/ru"
	words "github.com/blevesearch/bleve/v2/analysis/tokenizer/unicode"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	// maxToken is how many bytes of a token count: what is longer is no word.
	maxToken = 64
	// MaxTokens is how many different tokens of a text count.
	MaxTokens = 5_000
)

// signed are names that end in signs, which tell them from others: C++, C#.
var signed = regexp.MustCompile(`[\p{L}\p{N}]+(?:\+\+|#)`)

// Tokens takes a text apart: case and form of characters do not matter, nor do
// the endings of English and Russian words. Of Chinese, Japanese and Korean
// characters each is a token and each two in a row. What is asked for is taken
// apart the same way, and no sign in it means anything but itself. The tokens are
// in order, each once.
func Tokens(text string) []string { return tokens(text, false) }

// needed is Tokens without characters that a pair of the text has in it: who has the
// pair has them.
func needed(text string) []string { return tokens(text, true) }

func tokens(text string, narrow bool) []string {
	text = strings.ReplaceAll(cases.Fold().String(norm.NFKC.String(strings.ToValidUTF8(text, " "))), "ё", "е")
	seen := map[string]bool{}
	add := func(token string) {
		if len(token) > maxToken {
			token = strings.ToValidUTF8(token[:maxToken], "")
		}
		if token != "" && len(seen) < MaxTokens {
			seen[token] = true
		}
	}
	for _, name := range signed.FindAllString(text, -1) {
		add(name)
	}
	stream := pairs.Filter(words.NewUnicodeTokenizer().Tokenize([]byte(text)))
	paired := map[rune]bool{}
	for _, t := range stream {
		if t.Type == analysis.Double {
			for _, r := range string(t.Term) {
				paired[r] = narrow
			}
		}
	}
	for _, t := range stream {
		if r, size := utf8.DecodeRune(t.Term); size == len(t.Term) && paired[r] {
			continue
		}
		if t.Type == analysis.Ideographic || t.Type == analysis.Single || t.Type == analysis.Double {
			add(string(t.Term))
			continue
		}
		for _, word := range strings.FieldsFunc(string(t.Term), func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !isApostrophe(r)
		}) {
			add(stem(word))
		}
	}
	out := make([]string, 0, len(seen))
	for token := range seen {
		out = append(out, token)
	}
	slices.Sort(out)
	return out
}

// pairs makes pairs of characters that are written without spaces, and leaves them
// as well.
var pairs = cjk.NewCJKBigramFilter(true)

func isApostrophe(r rune) bool { return r == '\'' || r == '’' }

// stem is a word without its ending.
func stem(word string) string {
	word = strings.ReplaceAll(word, "’", "'")
	word = strings.TrimSuffix(strings.Trim(word, "'"), "'s")
	word = strings.ReplaceAll(word, "'", "")
	filter := english
	if strings.ContainsFunc(word, func(r rune) bool { return unicode.Is(unicode.Cyrillic, r) }) {
		filter = russian
	}
	return string(filter.Filter(analysis.TokenStream{{Term: []byte(word)}})[0].Term)
}

var english, russian analysis.TokenFilter = en.NewEnglishStemmerFilter(), ru.NewRussianStemmerFilter()
