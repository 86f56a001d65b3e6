package graphiql_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/server/graphiql"
)

func get(t *testing.T, target string, header ...string) (*http.Response, string) {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	http.StripPrefix("/graphiql", graphiql.Handler("/graphql")).ServeHTTP(recorder, request)
	response := recorder.Result()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(body)
}

func TestThePageLoadsNothingFromElsewhereAndRunsNoInlineScript(t *testing.T) {
	t.Parallel()
	response, body := get(t, "/graphiql/")

	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", response.Header.Get("Content-Type"))
	require.Equal(t, "no-cache", response.Header.Get("Cache-Control"))
	policy := response.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.Contains(t, policy, "script-src 'self';")
	require.Contains(t, policy, "frame-ancestors 'none'")
	require.NotContains(t, body, "//", "an address of another origin")
	for _, script := range regexp.MustCompile(`(?s)<script([^>]*)>(.*?)</script>`).FindAllStringSubmatch(body, -1) {
		require.Contains(t, script[1], "src=")
		require.Empty(t, script[2])
	}
	require.Contains(t, body, `data-endpoint="/graphql"`)
}

func TestTheEndpointIsEscaped(t *testing.T) {
	t.Parallel()
	recorder := httptest.NewRecorder()
	graphiql.Handler(`/g"><script>`).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	require.NotContains(t, recorder.Body.String(), `"><script>`)
}

func TestEveryAssetOfThePageIsServedForGood(t *testing.T) {
	t.Parallel()
	_, body := get(t, "/graphiql/")
	links := regexp.MustCompile(`(?:src|href)="(assets/[^"]+)"`).FindAllStringSubmatch(body, -1)
	require.Len(t, links, 6)
	for _, link := range links {
		response, content := get(t, "/graphiql/"+link[1])
		require.Equal(t, http.StatusOK, response.StatusCode, link[1])
		require.NotEmpty(t, content)
		require.Equal(t, "public, max-age=31536000, immutable", response.Header.Get("Cache-Control"))
		require.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
		want := "text/css; charset=utf-8"
		if strings.Contains(link[1], ".js?") {
			want = "text/javascript; charset=utf-8"
		}
		require.Equal(t, want, response.Header.Get("Content-Type"))
	}
}

func TestAnAssetWithoutItsDigestIsRevalidated(t *testing.T) {
	t.Parallel()
	first, _ := get(t, "/graphiql/assets/boot.js?v=old")
	require.Equal(t, "no-cache", first.Header.Get("Cache-Control"))
	require.NotEmpty(t, first.Header.Get("ETag"))

	again, body := get(t, "/graphiql/assets/boot.js", "If-None-Match", first.Header.Get("ETag"))
	require.Equal(t, http.StatusNotModified, again.StatusCode)
	require.Empty(t, body)
}

func TestLicencesAreServedWithTheCode(t *testing.T) {
	t.Parallel()
	response, body := get(t, "/graphiql/assets/LICENSES.txt")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, body, "MIT License")
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/graphiql/assets/", "/graphiql/assets/none.js", "/graphiql/page.html"} {
		response, _ := get(t, target)
		require.Equal(t, http.StatusNotFound, response.StatusCode, target)
	}
	recorder := httptest.NewRecorder()
	graphiql.Handler("/graphql").ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, recorder.Code)
}
