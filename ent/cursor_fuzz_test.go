package ent_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lethe-crm/lethe/ent"
)

// FuzzCursor reads cursors that clients made up: what is taken holds no text that a database refuses.
func FuzzCursor(f *testing.F) {
	for _, cursor := range []string{"", "gaFp2gAgY3VzdG9tZXJfMDZoMGU2amd2OXczcTlncTkxeTd0MXdhMDQ", "gaFpo3h4eA", "gqFpAaF2wA", "AAAA", "////", strings.Repeat("g", 5000)} {
		f.Add(cursor)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ent.UnmarshalCursor(text)
		if value, ok := c.Value.(string); ok && (strings.ContainsRune(value, 0) || !utf8.ValidString(value)) {
			t.Fatalf("%q holds %q", text, value)
		}
		if err != nil && c.Value != nil {
			t.Fatalf("%q is refused and read", text)
		}
	})
}
