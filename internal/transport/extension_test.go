package transport_test

import (
	"context"
	"strings"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/lethe-crm/lethe/internal/transport"
)

func TestVariablesAreHeldToOneOf(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	one, many := "query($v:Selector){select(by:$v)}", "query($v:[Selector!]){select(many:$v)}"
	grid, wrapped := "query($v:[[Selector]]){select(grid:$v)}", "query($v:Wrapper){select(wrapped:$v)}"
	within := "query($v:Selector!){select(by:{nested:$v})}"
	for _, test := range []struct {
		query, value string
		valid        bool
	}{
		{one, `{"name":"x"}`, true},
		{one, `{"__typename":"Selector","name":"x"}`, true},
		{one, `{"nested":{"ids":["x"]}}`, true},
		{one, `{"where":{"name":"x","first":1}}`, true},
		{one, `null`, true},
		{one, `{}`, false},
		{one, `{"name":null}`, false},
		{one, `{"name":"x","ids":null}`, false},
		{one, `{"name":"x","ids":["x"]}`, false},
		{one, `{"nested":{"name":"x","ids":["x"]}}`, false},
		{many, `[{"name":"x"},{"ids":["x"]}]`, true},
		{many, `[{"name":"x"},{}]`, false},
		{many, `{"name":"x"}`, true},
		{many, `{"name":"x","ids":["x"]}`, false},
		{grid, `[[{"name":"x"},null],null]`, true},
		{grid, `[[{"name":"x"}],[{"name":"x","ids":[]}]]`, false},
		{grid, `{"name":"x","ids":[]}`, false},
		{wrapped, `{"selector":{"name":"x"},"selectors":[{"ids":[]}]}`, true},
		{wrapped, `{"selector":{"name":"x","ids":[]}}`, false},
		{wrapped, `{"selectors":{"name":"x","ids":[]}}`, false},
		{within, `{"name":"x"}`, true},
		{within, `{}`, false},
	} {
		got := ask(t, server, test.query, `{"v":`+test.value+`}`)
		if test.valid {
			require.Nil(t, got.code(), "%s: %s", test.value, got.text)
		} else {
			require.Equal(t, "GRAPHQL_VALIDATION_FAILED", got.code(), "%s: %s", test.query, test.value)
			require.Contains(t, got.text, "exactly one")
		}
	}
	require.Equal(t, "GRAPHQL_VALIDATION_FAILED",
		ask(t, server, `query($v:Selector={name:"x",ids:[]}){select(by:$v)}`, "").code(), "a default")
}

func TestNULIsRefusedWhereverTextComesFrom(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for _, test := range []struct{ query, variables string }{
		{`mutation{rename(text:"a\u0000b")}`, `{}`},
		{`mutation{rename(text:"a\u{0}b")}`, `{}`},
		{`{...F} fragment F on Query{people(where:{names:["\u0000"]}){name}}`, `{}`},
		{`mutation($v:String){rename(text:$v)}`, `{"v":"a\u0000b"}`},
		{`query($v:[Selector!]){select(many:$v)}`, `{"v":{"where":{"and":[{"name":"\u0000"}]}}}`},
		{`query($v:[ID!]){people(ids:$v){name}}`, `{"v":"\u0000"}`},
		{`query($v:JSON){people(extra:$v){name}}`, `{"v":{"\u0000":1}}`},
	} {
		got := ask(t, server, test.query, test.variables)
		require.Equal(t, "BAD_USER_INPUT", got.code(), "%s: %s", test.query, got.text)
	}
	for _, text := range []string{`\u0001`, `\\u0000`, `é`} {
		require.Nil(t, ask(t, server, `mutation{rename(text:"`+text+`")}`, "").code(), text)
	}
}

func TestDeferIsRefused(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for _, query := range []string{
		"{...@defer{name}}",
		"{self{...F @defer}} fragment F on Query{name}",
		"{self{...F}} fragment F on Query{...@defer(if:false){name}}",
	} {
		got := ask(t, server, query, "")
		require.Equal(t, "BAD_USER_INPUT", got.code(), got.text)
	}
}

func TestErrorsDoNotTellNamesOfTheSchema(t *testing.T) {
	t.Parallel()
	for _, rule := range []func() *rules.Rules{transport.ValidationRules, rules.NewDefaultRules} {
		server := newServer(t, nil, func(s *handler.Server) {
			s.SetValidationRulesFn(rule)
		})
		for _, query := range []string{
			"{nam}", "{self}", "{people(frist:1){name}}", `{people(where:{nam:"x"}){name}}`,
			`query($v:Selecto){select(by:$v)}`, `{people{...on Quer{name}}}`,
		} {
			got := ask(t, server, query, "")
			require.Equal(t, "GRAPHQL_VALIDATION_FAILED", got.code(), query)
			require.NotContains(t, got.text, "Did you mean", query)
		}
	}
}

func TestWhoMayIntrospectKeepsSuggestions(t *testing.T) {
	t.Parallel()
	suggest := func(s *handler.Server) {
		s.SetValidationRulesFn(rules.NewDefaultRules)
		s.SetDisableSuggestion(false)
	}
	redact := transport.Redact{MaySuggest: func(context.Context) bool { return true }}
	errs := gqlerror.List{{
		Message:    `Cannot query field "nam" on type "Query". Did you mean "name"?`,
		Extensions: map[string]any{"code": "GRAPHQL_VALIDATION_FAILED"},
	}}
	kept := redact.InterceptResponse(t.Context(), func(context.Context) *graphql.Response {
		return &graphql.Response{Errors: errs}
	})
	require.Contains(t, kept.Errors[0].Message, `Did you mean "name"?`)
	require.NotContains(t, ask(t, newServer(t, nil, suggest), "{nam}", "").text, "Did you mean")
}

func TestStrippingSuggestionsLeavesOtherErrorsAndItsInputAlone(t *testing.T) {
	t.Parallel()
	errs := gqlerror.List{
		{Message: `Unknown type "Quer". Did you mean "Query"?`, Extensions: map[string]any{"code": "GRAPHQL_VALIDATION_FAILED"}},
		{Message: `Did you mean it? Did you mean that?`, Extensions: map[string]any{"code": "CONFLICT"}},
	}
	stripped := transport.StripSuggestions(errs)
	require.Equal(t, `Unknown type "Quer".`, stripped[0].Message)
	require.Equal(t, errs[1].Message, stripped[1].Message)
	require.Contains(t, errs[0].Message, "Did you mean")
}

func TestLongTextIsNotEchoed(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	long := strings.Repeat("я", 20_000)
	for _, test := range []struct{ query, variables string }{
		{"{" + strings.Repeat("a", 20_000) + "}", "{}"},
		{`{select(by:{name:"` + long + `",ids:[]})}`, "{}"},
		{"query($v:Where){people(where:$v){name}}", `{"v":{"` + long + `":1}}`},
		{"{self{" + each(1000, "wrong#") + "}}", "{}"},
		{`{people(first:"` + long + `"){name}}`, "{}"},
	} {
		got := ask(t, server, test.query, test.variables)
		require.NotNil(t, got.code())
		require.Less(t, len(got.text), 8_000)
		require.LessOrEqual(t, len(got.body.Errors), 20)
	}
}

func TestLongDocumentsAreNotCached(t *testing.T) {
	t.Parallel()
	cache := transport.NewDocumentCache(2)
	long := strings.Repeat(" ", 16<<10+1)
	cache.Add(t.Context(), "short", &ast.QueryDocument{})
	cache.Add(t.Context(), long, &ast.QueryDocument{})
	_, ok := cache.Get(t.Context(), "short")
	require.True(t, ok)
	_, ok = cache.Get(t.Context(), long)
	require.False(t, ok)
}
