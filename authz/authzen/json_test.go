package authzen

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatTwoParsersCouldReadDifferentlyIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":            ``,
		"two values":         `{} {}`,
		"garbage behind":     `{"a": 1} x`,
		"a key twice":        `{"a": 1, "a": 2}`,
		"a key twice, below": `{"x": [{"a": 1, "\u0061": 2}]}`,
		"a trailing comma":   `{"a": 1,}`,
		"no UTF-8":           "{\"a\": \"\xff\"}",
		"HTML":               `<html>`,
		"too deep":           strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
		"a huge number":      `1e999`,
	} {
		_, err := Parse([]byte(text))
		require.Error(t, err, name)
	}
}

func TestValuesAreReadAsPoliciesCompareThem(t *testing.T) {
	t.Parallel()
	v, err := Parse([]byte(` {"s": "x", "i": 9007199254740993, "f": 1.5, "big": 1e20, "b": true, "n": null, "l": [1, "x"], "A": 1, "a": 2} `))
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"s": "x", "i": int64(9007199254740993), "f": 1.5, "big": 1e20, "b": true, "n": nil, "l": []any{int64(1), "x"}, "A": int64(1), "a": int64(2),
	}, v)
	_, err = Parse([]byte(strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)))
	require.NoError(t, err)
}
