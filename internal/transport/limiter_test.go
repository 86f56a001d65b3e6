package transport_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// nest wraps a leaf in n fields.
func nest(n int) string {
	return strings.Repeat("{self", n) + "{name}" + strings.Repeat("}", n)
}

// each repeats text n times with # numbered.
func each(n int, text string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(text, "#", strconv.Itoa(i)))
		b.WriteByte(' ')
	}
	return b.String()
}

// bomb is fragments of which each spreads the next one twice.
func bomb(levels int, body string) string {
	return "{...F0}" + strings.Join(func() (all []string) {
		for i := range levels {
			all = append(all, fmt.Sprintf(" fragment F%d on Query{...F%d ...F%d}", i, i+1, i+1))
		}
		return append(all, fmt.Sprintf(" fragment F%d on Query{%s}", levels, body))
	}(), "")
}

func TestADocumentWithinTheLimitsIsServedAndOneOverIsNot(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for name, test := range map[string]struct{ within, over string }{
		"depth":          {nest(14), nest(15)},
		"inline depth":   {"{...{" + nest(13)[1:] + "}", "{...{self" + nest(14) + "}}"},
		"fragment depth": {"{self{...F}} fragment F on Query" + nest(13), "{self{...F}} fragment F on Query" + nest(14)},
		"aliases":        {"{self{" + each(60, "a#:name") + "}}", "{self{" + each(61, "a#:name") + "}}"},
		"spread aliases": {
			"{self{...F} ...on Query{self{...F}}} fragment F on Query{" + each(30, "a#:name") + "}",
			"{self{...F} ...on Query{self{...F}}} fragment F on Query{" + each(31, "a#:name") + "}",
		},
		"root fields":           {"{" + each(20, "name") + "}", "{" + each(21, "name") + "}"},
		"root fields by spread": {"{...F ...F} fragment F on Query{" + each(10, "name") + "}", "{...F ...F} fragment F on Query{" + each(11, "name") + "}"},
		"mutations":             {"mutation{" + each(20, "a#:rename") + "}", "mutation{" + each(21, "a#:rename") + "}"},
		"directives":            {"{self{" + each(50, "name@skip(if:false)") + "}}", "{self{" + each(51, "name@skip(if:false)") + "}}"},
		"fields":                {"{self{" + strings.Repeat("...F0 ", 1) + "}}" + bomb(12, "name")[7:], "{self{...F0}}" + bomb(14, "name")[7:]},
		"merged fields":         {"{self{" + each(300, "name") + "}}", "{self{" + each(330, "name") + "}}"},
		"merged below":          {"{self{" + each(15, "self{"+each(20, "name")+"}") + "}}", "{self{" + each(20, "self{"+each(20, "name")+"}") + "}}"},
		"operations":            {"{name}", each(21, "query A#{name}")},
	} {
		require.Equal(t, http.StatusOK, ask(t, server, test.within, "").status, "%s: %s", name, ask(t, server, test.within, "").text)
		refused := ask(t, server, test.over, "")
		require.Equal(t, "QUERY_LIMIT", refused.code(), "%s: %s", name, refused.text)
		require.Equal(t, http.StatusBadRequest, refused.status, name)
	}
}

func TestNestedFragmentsOverflowNoCounter(t *testing.T) {
	t.Parallel()
	got := ask(t, newServer(t, nil), bomb(200, "name"), "")
	require.Equal(t, "QUERY_LIMIT", got.code(), got.text)
}

func TestAFragmentWithinItselfIsInvalid(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	for _, query := range []string{
		"{...A} fragment A on Query{name ...A}",
		"{...A} fragment A on Query{self{...B}} fragment B on Query{...A}",
	} {
		require.Equal(t, "GRAPHQL_VALIDATION_FAILED", ask(t, server, query, "").code())
	}
}

func TestADocumentInTheCacheIsStillHeldToTheLimitsOfItsVariables(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	query := "query($n:Int){people(first:$n){name}}"
	require.Nil(t, ask(t, server, query, `{"n":1}`).code())
	require.Equal(t, "BAD_USER_INPUT", ask(t, server, query, `{"n":101}`).code())
}

func TestGraphQLsOwnIntrospectionQueryIsWithinItsBounds(t *testing.T) {
	t.Parallel()
	// Printed by getIntrospectionQuery of npm graphql 16 with every option on.
	query, err := os.ReadFile("testdata/introspection.graphql")
	require.NoError(t, err)
	got := ask(t, newServer(t, nil), string(query), "")
	require.Equal(t, http.StatusOK, got.status, got.text)
}

func TestIntrospectionHasBoundsOfItsOwn(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	deep := func(n int) string {
		return `{__type(name:"Query"){` + strings.Repeat("ofType{", n) + "name" + strings.Repeat("}", n) + "}}"
	}
	require.Nil(t, ask(t, server, deep(14), "").code(), "deeper than a query may be")
	for name, query := range map[string]string{
		"depth":        deep(15),
		"roots":        "{" + each(4, "__typename __schema{queryType{name}}") + "}",
		"aliases":      `{__type(name:"Query"){` + each(11, "a#:name") + "}}",
		"spread":       `{...F} fragment F on Query{__schema{types{` + each(11, "a#:name") + "}}}",
		"lists":        "{__schema{types{fields{type{fields{type{fields{name}}}}}}}}",
		"spread lists": "{__schema{types{fields{...F}}}} fragment F on __Field{args{type{inputFields{name}}}}",
	} {
		require.Equal(t, "QUERY_LIMIT", ask(t, server, query, "").code(), name)
	}
}

func TestFirstAndLastAreFromOneToAHundred(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	variable := "query($n:Int){people(last:$n){name}}"
	for _, n := range []string{"1", "100"} {
		require.Nil(t, ask(t, server, "{people(first:"+n+"){name}}", "").code(), n)
		require.Nil(t, ask(t, server, variable, `{"n":`+n+`}`).code(), n)
	}
	require.Nil(t, ask(t, server, "{people(first:null){name}}", "").code())
	require.Nil(t, ask(t, server, variable, `{"n":null}`).code())
	require.Nil(t, ask(t, server, variable, `{}`).code())
	require.Nil(t, ask(t, server, "{people(where:{first:1000}){name}}", "").code(), "a field of an input is no argument")

	for _, n := range []string{"0", "-1", "101", "2147483648"} {
		got := ask(t, server, "{self{...F}} fragment F on Query{people(first:"+n+"){name}}", "")
		require.Equal(t, "BAD_USER_INPUT", got.code(), n)
		require.Equal(t, []any{"first"}, got.body.Errors[0].Extensions["fields"])
	}
	for _, n := range []string{"0", "-1", "101", "9223372036854775807", `"101"`, `"0"`} {
		require.Equal(t, "BAD_USER_INPUT", ask(t, server, variable, `{"n":`+n+`}`).code(), n)
	}
	require.Equal(t, "BAD_USER_INPUT", ask(t, server, "query($n:Int=101){people(last:$n){name}}", "").code())
}

func TestAThousandIdsAreAllowedAndOneMoreIsNot(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	ids := func(n int) string { return "[" + strings.Repeat(`"x",`, n-1) + `"x"]` }
	references := func(n int) string {
		return "[" + strings.Repeat(`{"id":"x","version":1},`, n-1) + `{"id":"x","version":1}]`
	}
	require.Nil(t, ask(t, server, "{people(ids:"+ids(1000)+"){name}}", "").code())
	require.Equal(t, "QUERY_LIMIT", ask(t, server, "{people(ids:"+ids(1001)+"){name}}", "").code())
	for name, test := range map[string]struct{ query, within, over string }{
		"variable":     {"query($v:[ID!]){people(ids:$v){name}}", ids(1000), ids(1001)},
		"in an input":  {"query($v:Selector){select(by:$v)}", `{"ids":` + ids(1000) + `}`, `{"ids":` + ids(1001) + `}`},
		"references":   {"mutation($v:[Reference!]){rename(records:$v)}", references(1000), references(1001)},
		"used twice":   {"query($v:[ID!]){people(ids:$v){name} self{people(ids:$v){name}}}", ids(500), ids(501)},
		"in a literal": {"query($v:[ID!]!){select(by:{ids:$v})}", ids(1000), ids(1001)},
		"spread":       {"query($v:[ID!]){self{...F} ...F} fragment F on Query{people(ids:$v){name}}", ids(500), ids(501)},
	} {
		got := ask(t, server, test.query, `{"v":`+test.within+`}`)
		require.Nil(t, got.code(), "%s: %s", name, got.text)
		require.Equal(t, "QUERY_LIMIT", ask(t, server, test.query, `{"v":`+test.over+`}`).code(), name)
	}
}

func TestInputsAreBoundedInDepthAndSize(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	not := func(n int) string { return strings.Repeat(`{"not":`, n-1) + `{"name":"x"}` + strings.Repeat("}", n-1) }
	literal := func(json string) string { return strings.NewReplacer(`"not"`, "not", `"name"`, "name").Replace(json) }
	lists := func(n int) string { return strings.Repeat("[", n) + "1" + strings.Repeat("]", n) }
	names := func(n int) string { return `{"names":[` + strings.Repeat(`"x",`, n-1) + `"x"]}` }
	ands := func(n int) string { return `{"and":[` + strings.Repeat(`{"name":"x"},`, n-1) + `{"name":"x"}]}` }
	where, extra := "query($v:Where){people(where:$v){name}}", "query($v:JSON){people(extra:$v){name}}"

	require.Nil(t, ask(t, server, "{people(where:"+literal(not(20))+"){name}}", "").code())
	require.Equal(t, "QUERY_LIMIT", ask(t, server, "{people(where:"+literal(not(21))+"){name}}", "").code())
	inner := "query($v:Where){people(where:{not:{not:$v}}){name}}"
	require.Nil(t, ask(t, server, inner, `{"v":`+not(18)+`}`).code())
	require.Equal(t, "QUERY_LIMIT", ask(t, server, inner, `{"v":`+not(19)+`}`).code())

	for _, test := range []struct{ query, within, over string }{
		{where, not(20), not(21)},
		{where, names(999), names(1000)},
		{where, ands(499), ands(500)},
		{extra, lists(20), lists(21)},
		{extra, names(999), names(1000)},
	} {
		require.Nil(t, ask(t, server, test.query, `{"v":`+test.within+`}`).code())
		require.Equal(t, "QUERY_LIMIT", ask(t, server, test.query, `{"v":`+test.over+`}`).code())
	}
}

func TestVariablesNoInputCouldHaveAreRefusedUnread(t *testing.T) {
	t.Parallel()
	server := newServer(t, nil)
	nested := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat("]", n) }
	objects := func(n int) string { return `[` + strings.Repeat(`{},`, n) + `{}]` }
	// The variable is not declared: only what reads them all can refuse it.
	for _, over := range []string{nested(64), nested(9_000), objects(7_000)} {
		require.Equal(t, "QUERY_LIMIT", ask(t, server, "{name}", `{"v":`+over+`}`).code())
	}
	for _, within := range []string{nested(63), objects(6_990)} {
		require.Nil(t, ask(t, server, "{name}", `{"v":`+within+`}`).code())
	}
}

func TestLiteralsNoInputCouldHaveAreRefusedBeforeTheyAreValidated(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("{not:", 100) + "1" + strings.Repeat("}", 100)
	server := newServer(t, nil)
	for _, query := range []string{
		"{people(where:" + deep + "){name}}",
		"query($v:Where=" + deep + "){people(where:$v){name}}",
		"{name @nothing(a:" + deep + ")}",
		"{...F} fragment F on Query{...{people(where:" + deep + "){name}}}",
		"query @nothing(a:" + deep + "){name}",
	} {
		require.Equal(t, "QUERY_LIMIT", ask(t, server, query, "").code(), query)
	}
}

func TestMoreTokensThanAllowedAreALimit(t *testing.T) {
	t.Parallel()
	require.Equal(t, "QUERY_LIMIT", ask(t, newServer(t, nil), "{"+strings.Repeat("name ", 10_000)+"}", "").code())
}
