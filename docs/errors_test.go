package docs_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/transport"
)

var codeRow = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| [^|]+ \\| [^|]+ \\| \\d{3}")

func TestThePageOfErrorsHasEveryCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("errors.md")
	require.NoError(t, err)
	var listed []string
	for _, row := range codeRow.FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, row[1])
	}
	known := []string{
		transport.CodeUnauthenticated, transport.CodeRateLimited, transport.CodeQueryLimit, "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED",
		transport.CodeDocumentNotFound, transport.CodeDocumentNotSupported, transport.CodeDocumentNotTrusted,
	}
	for _, code := range lifecycle.Codes() {
		known = append(known, string(code))
	}
	slices.Sort(listed)
	slices.Sort(known)
	require.Equal(t, known, listed)
}

var limitRow = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (\\d+) \\|")

func TestThePageOfLimitsSaysTheDefaults(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("http.md")
	require.NoError(t, err)
	text := ""
	for _, row := range limitRow.FindAllStringSubmatch(string(page), -1) {
		if text != "" {
			text += ","
		}
		text += row[1] + "=" + row[2]
	}
	var read transport.Limits
	require.NoError(t, read.UnmarshalText([]byte(text)))
	require.Equal(t, transport.DefaultLimits(), read)
}
