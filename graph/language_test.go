package graph_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
)

func TestTheMessageOfEveryCodeIsTranslated(t *testing.T) {
	t.Parallel()
	for code, message := range graph.Messages {
		require.Contains(t, graph.Translations, message, code)
	}
	for message, translated := range graph.Translations {
		for i, script := range []*unicode.RangeTable{unicode.Cyrillic, unicode.Han} {
			require.True(t, containsAny(translated[i], script), "%s: %s", message, translated[i])
		}
	}
}

func containsAny(text string, script *unicode.RangeTable) bool {
	for _, r := range text {
		if unicode.Is(script, r) {
			return true
		}
	}
	return false
}

func TestMessagesAreInTheLanguageOfWhoAsks(t *testing.T) {
	each(t, func(w *world) {
		ask := func(as, languages, document string) (*httptest.ResponseRecorder, string) {
			body, err := json.Marshal(map[string]string{"query": document})
			w.NoError(err)
			ctx := w.t.Context()
			if as != "" {
				ctx = actor.With(ctx, w.actor(as))
			}
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/graphql", bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			if languages != "" {
				r.Header.Set("Accept-Language", languages)
			}
			out := httptest.NewRecorder()
			w.handler.ServeHTTP(out, r)
			return out, out.Body.String()
		}
		missing := fmt.Sprintf(`mutation { deleteRecords(input: {select: {ids: [%q]}}) { operation { items(first: 1) { nodes { code message } } } } }`, gid.New(gid.Customer))
		const forbidden = `{ auditEvents(first: 1) { totalCount } }`
		for _, test := range []struct{ languages, tag, item, refusal, stranger string }{
			{"", "en", "There is no such record.", "The policy does not allow this.", "Sign in first."},
			{"ru", "ru", "Такой записи нет.", "Политика доступа этого не разрешает.", "Сначала войдите в систему."},
			{"fr, ru;q=0.8, en;q=0.5", "ru", "Такой записи нет.", "Политика доступа этого не разрешает.", "Сначала войдите в систему."},
			{"zh-CN, en;q=0.5", "zh", "该记录不存在。", "访问策略不允许此操作。", "请先登录。"},
			{"fr, ;;", "en", "There is no such record.", "The policy does not allow this.", "Sign in first."},
		} {
			out, body := ask("admin", test.languages, missing)
			w.Contains(body, test.item)
			w.Contains(body, `"NOT_FOUND"`, "codes are not translated")
			w.Equal(test.tag, out.Header().Get("Content-Language"))
			w.Contains(out.Header().Values("Vary"), "Accept-Language")
			_, body = ask("agent", test.languages, forbidden)
			w.Contains(body, test.refusal)
			_, body = ask("", test.languages, forbidden)
			w.Contains(body, test.stranger)
		}
	})
}

// TestNothingIsTranslatedThatIsNotSaid keeps a message that was put in other words from losing its translations.
func TestNothingIsTranslatedThatIsNotSaid(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, dir := range []string{".", "../internal/record", "../internal/export", "../internal/notify", "../internal/policy", "../internal/attachment", "../internal/intake"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if file == "language.go" || strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			source.Write(text)
		}
	}
	for message := range graph.Translations {
		require.Contains(t, source.String(), strconv.Quote(message))
	}
}
