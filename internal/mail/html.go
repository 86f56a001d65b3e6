package mail

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// hidden elements have no text a reader sees.
var hidden = map[atom.Atom]bool{
	atom.Head: true, atom.Script: true, atom.Style: true, atom.Title: true, atom.Template: true, atom.Noscript: true,
}

// breaks says how many line breaks stand around a block element.
var breaks = map[atom.Atom]int{
	atom.Br: 1, atom.Div: 1, atom.Tr: 1, atom.Li: 1, atom.Dt: 1, atom.Dd: 1, atom.Hr: 1, atom.Section: 1,
	atom.Article: 1, atom.Header: 1, atom.Footer: 1, atom.Address: 1, atom.Form: 1, atom.Center: 1,
	atom.P: 2, atom.H1: 2, atom.H2: 2, atom.H3: 2, atom.H4: 2, atom.H5: 2, atom.H6: 2, atom.Ul: 2, atom.Ol: 2,
	atom.Dl: 2, atom.Table: 2, atom.Blockquote: 2, atom.Pre: 2,
}

// htmlText is the text of an HTML document with line breaks where blocks
// begin and end. It works on tokens, not on a tree, so that no nesting can
// exhaust the stack.
func htmlText(document string) string {
	var out layout
	tokens := html.NewTokenizer(strings.NewReader(document))
	var skipping atom.Atom
	depth, preformatted := 0, 0
	for {
		kind := tokens.Next()
		if kind == html.ErrorToken {
			if !errors.Is(tokens.Err(), io.EOF) {
				out.write(string(tokens.Raw()), false)
			}
			return strings.TrimSpace(out.text.String())
		}
		token := tokens.Token()
		opens, closes := kind == html.StartTagToken, kind == html.EndTagToken
		if skipping != 0 {
			switch {
			case token.DataAtom == skipping && opens:
				depth++
			case token.DataAtom == skipping && closes:
				depth--
			case token.DataAtom == atom.Body && opens: // <head> was never closed
				depth = 0
			}
			if depth == 0 {
				skipping = 0
			}
			continue
		}
		switch {
		case kind == html.TextToken:
			out.write(token.Data, preformatted > 0)
		case opens && hidden[token.DataAtom]:
			skipping, depth = token.DataAtom, 1
		case opens && token.DataAtom == atom.Li:
			out.breakLine(1)
			out.write("- ", true)
		case token.DataAtom == atom.Td, token.DataAtom == atom.Th:
			out.space()
		case token.DataAtom == atom.Br && closes:
		case token.DataAtom == atom.Br:
			out.newLine()
		case token.DataAtom == atom.Pre:
			if opens {
				preformatted++
			} else {
				preformatted = max(0, preformatted-1)
			}
			out.breakLine(2)
		default:
			out.breakLine(breaks[token.DataAtom])
		}
	}
}

// layout collects text and keeps at most one empty line between lines.
type layout struct {
	text      bytes.Buffer
	newLines  int // written at the end of text
	wantSpace bool
}

func (l *layout) write(text string, preformatted bool) {
	if preformatted {
		l.text.WriteString(text)
		l.newLines, l.wantSpace = 0, false
		return
	}
	words := strings.Fields(strings.ReplaceAll(text, "\u00ad", "")) // soft hyphens are for layout
	if len(words) == 0 {
		l.wantSpace = l.wantSpace || text != ""
		return
	}
	if l.wantSpace || strings.TrimLeft(text, " \t\r\n") != text {
		l.separate()
	}
	l.text.WriteString(strings.Join(words, " "))
	l.newLines = 0
	l.wantSpace = strings.TrimRight(text, " \t\r\n") != text
}

func (l *layout) separate() {
	if l.newLines == 0 && l.text.Len() > 0 {
		l.text.WriteByte(' ')
	}
}

func (l *layout) space() { l.wantSpace = true }

// newLine is <br>: it always adds a line.
func (l *layout) newLine() {
	l.wantSpace = false
	if l.text.Len() > 0 && l.newLines < 2 {
		l.text.WriteByte('\n')
		l.newLines++
	}
}

// breakLine makes sure that n line breaks stand at the end.
func (l *layout) breakLine(n int) {
	if n > 0 {
		l.wantSpace = false
	}
	for l.text.Len() > 0 && l.newLines < n {
		l.text.WriteByte('\n')
		l.newLines++
	}
}
