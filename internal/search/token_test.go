package search_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/search"
)

// finds reports whether a text has all that is asked for.
func finds(text, query string) bool {
	in, want := search.Tokens(text), search.Tokens(query)
	return len(want) > 0 && !slices.ContainsFunc(want, func(token string) bool { return !slices.Contains(in, token) })
}

func TestATextIsFoundByItsWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, query string
		found       bool
	}{
		{"The dogs were running", "dog run", true},
		{"The dogs were running", "RUNNING Dogs", true},
		{"The dogs were running", "cat", false},
		{"the customer's invoices", "customer invoice", true},
		{"the customer’s invoice", "customers", true},
		{"Счета были оплачены по договорам", "счет договор", true},
		{"Счета были оплачены по договорам", "ОПЛАЧЕНЫ", true},
		{"Ещё один отчёт", "отчет еще", true},
		{"Счета были оплачены", "письмо", false},
		{"北京大学的合同", "合同", true},
		{"北京大学的合同", "大学", true},
		{"北京大学的合同", "同合", false},
		{"北京大学的合同", "京", true},
		{"请把合同发给John", "john 合同", true},
		{"Ｆｕｌｌ ｗｉｄｔｈ ﬁle", "full width file", true},
		{"naïve café", "NAÏVE CAFÉ", true},
		{"we write C++ and C#", "c++", true},
		{"we write C++ and C#", "C#", true},
		{"we write C", "c++", false},
		{"C/C++ developers", "c++ developer", true},
		{"mail sales@acme.example today", "acme", true},
		{"mail sales@acme.example today", "sales@acme.example", true},
		{"mail sales@acme.example today", "sales@other.example", false},
		{"file_name_v2.pdf", "name pdf", true},
		{"order 12-345", "12 345", true},
		{"a \"quoted\" word", `"quoted word"`, true},
		{"nothing to see", "see OR other", false},
		{"see this or that", "see OR that", true},
		{"minus is no sign", "-minus", true},
		{"star", "st*", false},
		{"with\x00NUL", "nul", true},
		{"broken \xff text", "broken text", true},
		{"", "word", false},
		{"word", "", false},
		{"word", "!?:()&|", false},
	} {
		require.Equal(t, c.found, finds(c.text, c.query), "%q in %q: %q in %q", c.query, c.text, search.Tokens(c.query), search.Tokens(c.text))
	}
}

func TestTokensAreDistinctAndInOrder(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"dog", "run"}, search.Tokens("run dogs RUN running"))
	require.Empty(t, search.Tokens(" \n\t"))
	require.Len(t, search.Tokens(strings.Repeat("x", 1000))[0], 64)
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{"The dogs", "Счета", "合同", "c++", "a\x00b", "\xff", "'s", "’", "ёё", "ｱｲｳ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens := search.Tokens(text)
		require.True(t, slices.IsSorted(tokens))
		require.Len(t, slices.Compact(slices.Clone(tokens)), len(tokens))
		for _, token := range tokens {
			require.NotEmpty(t, token)
			require.True(t, utf8.ValidString(token))
			require.NotContains(t, token, "\x00")
			require.LessOrEqual(t, len(token), 64)
		}
		require.Equal(t, tokens, search.Tokens(text+" "+text))
	})
}
