package graph

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/migrate"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

func TestTheContractIsWhatIsServed(t *testing.T) {
	t.Parallel()
	contract, err := os.ReadFile("contract.graphql")
	require.NoError(t, err)
	require.Equal(t, string(contract), SDL(), "stale: run go generate")
	published, err := gqlparser.LoadSchema(&ast.Source{Name: "contract.graphql", Input: SDL()})
	require.NoError(t, err)
	for name, def := range newSchema(Config{}).Schema().Types {
		require.Contains(t, published.Types, name)
		require.Len(t, published.Types[name].Fields, len(def.Fields), name)
	}
	require.NotContains(t, SDL(), "@go")
}

func TestARootFieldWithoutAGuardIsRefused(t *testing.T) {
	t.Parallel()
	require.NoError(t, checkGuards(newSchema(Config{}).Schema()))
	for root, sdl := range map[string]string{
		"Query.b":        `type Query { a: Int @public b: Int }`,
		"Mutation.m":     `type Query { a: Int @public } type Mutation { m: Int }`,
		"Subscription.s": `type Query { a: Int @public } type Subscription { s: Int @deprecated }`,
	} {
		schema, err := gqlparser.LoadSchema(&ast.Source{Input: `directive @public on FIELD_DEFINITION ` + sdl})
		require.NoError(t, err)
		require.ErrorContains(t, checkGuards(schema), root)
	}
}

// columnsOf are the columns of an entity's table, by name; true if nullable.
func columnsOf(entity string) map[string]bool {
	columns, name := map[string]bool{}, strings.ToLower(entity)+"s"
	if t := ent.RecordTypeNamed(entity); t != nil {
		name = t.Table
	}
	for _, table := range migrate.Tables {
		if table.Name != name {
			continue
		}
		for _, c := range table.Columns {
			columns[c.Name] = c.Nullable
		}
	}
	return columns
}

func TestListsAreOrderedByRequiredColumnsOnly(t *testing.T) {
	t.Parallel()
	orders := 0
	for name, def := range newSchema(Config{}).Schema().Types {
		entity, ok := strings.CutSuffix(name, "OrderField")
		if !ok || entity == "" {
			continue
		}
		columns := columnsOf(entity)
		for _, value := range def.EnumValues {
			nullable, isColumn := columns[strings.ToLower(value.Name)]
			require.True(t, isColumn, "%s.%s orders by something else than a column, such as a count of edges", name, value.Name)
			require.False(t, nullable, "%s.%s: ordering by a nullable column drops rows", name, value.Name)
			orders++
		}
	}
	require.Greater(t, orders, 10)
}

func TestAnEdgeToARecordMayBeNull(t *testing.T) {
	t.Parallel()
	schema := newSchema(Config{}).Schema()
	isRecord := func(name string) bool {
		return name == "Record" || slices.Contains(schema.Types[name].Interfaces, "Record")
	}
	edges := 0
	for name, def := range schema.Types {
		if def.Kind != ast.Object || strings.HasSuffix(name, "Payload") || strings.HasSuffix(name, "Edge") {
			continue
		}
		for _, f := range def.Fields {
			if f.Type.Elem == nil && isRecord(f.Type.Name()) {
				require.False(t, f.Type.NonNull, "%s.%s: what it points to may be hidden from the reader", name, f.Name)
				edges++
			}
		}
	}
	require.Greater(t, edges, 5)
}

func TestSensitiveFieldsMayBeNull(t *testing.T) {
	t.Parallel()
	schema := newSchema(Config{}).Schema()
	for _, typ := range ent.RecordTypes {
		for _, f := range typ.Fields {
			if field := schema.Types[typ.Name].Fields.ForName(f.GraphQL); f.Sensitive && field != nil {
				require.False(t, field.Type.NonNull, "%s.%s", typ.Name, f.GraphQL)
			}
		}
	}
}

func TestFiltersSayNothingOfTheLifecycle(t *testing.T) {
	t.Parallel()
	for name, def := range newSchema(Config{}).Schema().Types {
		if entity, ok := strings.CutSuffix(name, "WhereInput"); !ok || ent.RecordTypeNamed(entity) == nil {
			continue
		}
		for _, f := range def.Fields {
			for _, prefix := range []string{"state", "retired", "purge", "suspended", "orphaned", "version", "seal", "tenant", "operation", "prior"} {
				require.False(t, strings.HasPrefix(f.Name, prefix), "%s.%s", name, f.Name)
			}
			require.False(t, strings.Contains(f.Name, "Key") && f.Name != "threadKey" && !strings.HasPrefix(f.Name, "threadKey"), "%s.%s", name, f.Name)
		}
	}
}

func TestEveryListSaysWhichPage(t *testing.T) {
	t.Parallel()
	for name, def := range newSchema(Config{}).Schema().Types {
		for _, f := range def.Fields {
			if !strings.HasSuffix(f.Type.Name(), "Connection") {
				continue
			}
			for _, argument := range []string{"first", "after", "last", "before"} {
				require.NotNil(t, f.Arguments.ForName(argument), "%s.%s(%s:)", name, f.Name, argument)
			}
			if ent.RecordTypeNamed(strings.TrimSuffix(f.Type.Name(), "Connection")) != nil {
				require.Equal(t, "[ACTIVE]", f.Arguments.ForName("states").DefaultValue.String(), "%s.%s", name, f.Name)
			}
		}
	}
}

func TestEveryCodeHasWords(t *testing.T) {
	t.Parallel()
	enum := newSchema(Config{}).Schema().Types["Code"].EnumValues
	require.Len(t, enum, len(lifecycle.Codes()))
	for _, code := range lifecycle.Codes() {
		require.NotEmpty(t, messages[code], code)
		require.NotNil(t, enum.ForName(string(code)), code)
	}
}

func TestEveryActionAndVerbIsInTheSchema(t *testing.T) {
	t.Parallel()
	types := newSchema(Config{}).Schema().Types
	require.Len(t, types["Action"].EnumValues, len(authz.Actions()))
	for _, a := range authz.Actions() {
		require.NotNil(t, types["Action"].EnumValues.ForName(strings.ToUpper(strings.ReplaceAll(string(a), ".", "_"))), a)
	}
	for _, v := range lifecycle.Verbs() {
		require.NotEmpty(t, verbs[v], v)
		require.NotNil(t, types["Verb"].EnumValues.ForName(string(v)))
	}
	for _, s := range lifecycle.States() {
		require.NotNil(t, types["RecordState"].EnumValues.ForName(string(s)))
	}
	require.Len(t, types["RecordType"].EnumValues, len(ent.RecordTypes))
}
func TestEverythingIsDescribed(t *testing.T) {
	t.Parallel()
	var missing []string
	for name, def := range newSchema(Config{}).Schema().Types {
		if def.BuiltIn || strings.HasPrefix(name, "__") {
			continue
		}
		say := func(path, description string) {
			if description == "" {
				missing = append(missing, path)
			}
		}
		say(name, def.Description)
		for _, v := range def.EnumValues {
			say(name+"."+v.Name, v.Description)
		}
		for _, f := range def.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			say(name+"."+f.Name, f.Description)
			for _, a := range f.Arguments {
				say(name+"."+f.Name+"("+a.Name+":)", a.Description)
			}
		}
	}
	slices.Sort(missing)
	require.Empty(t, missing)
}

func TestFiltersCompareAlikeOnBothDatabases(t *testing.T) {
	t.Parallel()
	for name, def := range newSchema(Config{}).Schema().Types {
		for _, f := range def.Fields {
			if !strings.HasSuffix(name, "WhereInput") {
				continue
			}
			require.False(t, strings.HasSuffix(f.Name, "Fold"), "%s.%s: SQLite folds ASCII only", name, f.Name)
			for _, text := range []string{"Contains", "HasPrefix", "HasSuffix"} {
				require.False(t, f.Type.Name() == "ID" && strings.HasSuffix(f.Name, text), "%s.%s: PostgreSQL compares no uuid with a pattern", name, f.Name)
			}
		}
	}
}
