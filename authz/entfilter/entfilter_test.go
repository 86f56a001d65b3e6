package entfilter_test

import (
	stdsql "database/sql"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/entfilter"
)

// storedID is how ids are stored: without the type that policies write before them.
func storedID(v any) (any, error) {
	text, _ := v.(string)
	id, ok := strings.CutPrefix(text, "user_")
	if !ok {
		return nil, entfilter.ErrNever
	}
	return id, nil
}

func mapper() entfilter.Mapper {
	note := entfilter.Mapper{Cols: map[string]entfilter.Column{"text": {Name: "body"}}}
	m := entfilter.Mapper{Cols: map[string]entfilter.Column{
		"name": {Name: "name"}, "owner": {Name: "owner_id", Value: storedID}, "amount": {Name: "amount"},
		"won": {Name: "won"}, "at": {Name: "at"},
	}}
	parent := entfilter.Mapper{Cols: m.Cols, Edges: map[string]entfilter.Edge{
		"notes": {Table: "notes", ParentColumn: "id", ChildColumn: "deal_id", Child: note},
	}}
	m.Edges = map[string]entfilter.Edge{
		"notes":  {Table: "notes", ParentColumn: "id", ChildColumn: "deal_id", Child: note},
		"parent": {Table: "deals", ParentColumn: "parent_id", ChildColumn: "id", Child: parent},
	}
	return m
}

var instant = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// deals are the rows as policies see them. Every third belongs to another tenant.
func deals() []map[string]any {
	var rows []map[string]any
	names := []any{nil, "Straße", "strasse", "STRA", "Stra%", "a_b", "ab", ""}
	owners := []any{nil, "user_1", "user_2"}
	times := []any{nil, instant, instant.Add(500 * time.Millisecond), instant.Add(time.Hour)}
	for i := range 48 {
		row := map[string]any{
			"id": i, "name": names[i%len(names)], "owner": owners[i/2%3], "amount": []any{nil, 5, 10}[i%5%3],
			"won": []any{nil, true, false}[i%7%3], "at": times[i/3%4], "tenant": []string{"t1", "t1", "t2"}[i%3],
			"notes": []map[string]any{},
		}
		for j := range i % 3 {
			row["notes"] = append(row["notes"].([]map[string]any), map[string]any{"text": []any{"hot", nil}[j]})
		}
		if i > 0 {
			row["parent"] = []map[string]any{rows[i/2]}
		}
		rows = append(rows, row)
	}
	return rows
}

func open(t *testing.T, rows []map[string]any) *stdsql.DB {
	t.Helper()
	db, err := stdsql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1) // each connection has a database of its own
	exec := func(query string, args ...any) {
		_, err := db.ExecContext(t.Context(), query, args...)
		require.NoError(t, err)
	}
	exec(`CREATE TABLE deals (id integer, tenant text, name text, owner_id text, amount integer, won bool, at datetime, parent_id integer)`)
	exec(`CREATE TABLE notes (deal_id integer, body text)`)
	for _, r := range rows {
		var owner, parent any
		if r["owner"] != nil {
			owner, err = storedID(r["owner"])
			require.NoError(t, err)
		}
		if p, ok := r["parent"].([]map[string]any); ok {
			parent = p[0]["id"]
		}
		exec(`INSERT INTO deals VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, r["id"], r["tenant"], r["name"], owner, r["amount"], r["won"], r["at"], parent)
		for _, n := range r["notes"].([]map[string]any) {
			exec(`INSERT INTO notes VALUES (?, ?)`, r["id"], n["text"])
		}
	}
	return db
}

func genFilter(depth int, edges ...string) *rapid.Generator[authz.Filter] {
	return rapid.Custom(func(t *rapid.T) authz.Filter {
		top := 3
		if depth > 0 {
			top = 7
		}
		kind := rapid.IntRange(0, top).Draw(t, "kind")
		if kind == 7 && len(edges) > 0 {
			edge := rapid.SampledFrom(edges).Draw(t, "edge")
			if edge == "notes" {
				return authz.Edge{Name: edge, Of: genNote().Draw(t, "note")}
			}
			return authz.Edge{Name: edge, Of: genFilter(depth-1, "notes").Draw(t, "related")}
		}
		switch kind {
		case 4:
			return authz.Not{Of: genFilter(depth-1, edges...).Draw(t, "of")}
		case 5:
			return authz.And(rapid.SliceOfN(genFilter(depth-1, edges...), 0, 3).Draw(t, "and"))
		case 6:
			return authz.Or(rapid.SliceOfN(genFilter(depth-1, edges...), 0, 3).Draw(t, "or"))
		}
		values := map[string][]any{
			"name":   {"Straße", "strasse", "Stra", "stra", "Stra%", "a_", "", nil},
			"owner":  {"user_1", "user_2", "team_1", nil}, // the column holds users
			"amount": {5, int64(10), 7.5, nil},
			"won":    {true, false, nil},
			"at":     {instant.In(time.FixedZone("x", 3600)), instant.Add(500 * time.Millisecond), nil},
		}
		field := rapid.SampledFrom([]string{"name", "owner", "amount", "won", "at"}).Draw(t, "field")
		value := rapid.SampledFrom(values[field])
		switch kind {
		case 0:
			return authz.IsNull{Field: field}
		case 1:
			return authz.In{Field: field, Values: rapid.SliceOfN(value, 0, 3).Draw(t, "values")}
		}
		ops := []authz.Op{authz.Equal, authz.NotEqual}
		switch field {
		case "name":
			ops = authz.Ops()
		case "amount", "at":
			ops = authz.Ops()[:6]
		}
		c := authz.Cmp{Field: field, Op: rapid.SampledFrom(ops).Draw(t, "op"), Value: value.Draw(t, "value")}
		if c.Op == authz.Prefix && c.Value == nil {
			c.Value = "S"
		}
		return c
	})
}

func genNote() *rapid.Generator[authz.Filter] {
	return rapid.SampledFrom([]authz.Filter{
		authz.True{}, authz.Cmp{Field: "text", Op: authz.Equal, Value: "hot"},
		authz.Not{Of: authz.Cmp{Field: "text", Op: authz.Equal, Value: "hot"}}, authz.IsNull{Field: "text"},
	})
}

func TestTheDatabaseFindsTheRowsThatMatchInOneTenant(t *testing.T) {
	t.Parallel()
	rows := deals()
	db := open(t, rows)
	rapid.Check(t, func(rt *rapid.T) {
		for _, f := range rapid.SliceOfN(genFilter(3, "notes", "parent"), 1, 20).Draw(rt, "filters") {
			requireSameRows(rt, db, rows, f)
			requireSameRows(rt, db, rows, authz.Not{Of: f})
		}
	})
}

func requireSameRows(t *rapid.T, db *stdsql.DB, rows []map[string]any, f authz.Filter) {
	t.Helper()
	predicate, err := entfilter.Lower(f, mapper())
	require.NoError(t, err)
	s := sql.Dialect(dialect.SQLite).Select("id").From(sql.Table("deals")).OrderBy("id")
	s.Where(sql.EQ(s.C("tenant"), "t1"))
	s.Where(predicate(s))
	query, args := s.Query()
	found, err := db.QueryContext(t.Context(), query, args...)
	require.NoError(t, err, query)
	defer found.Close()
	var got, want []int
	for found.Next() {
		var id int
		require.NoError(t, found.Scan(&id))
		got = append(got, id)
	}
	require.NoError(t, found.Err())
	for _, r := range rows {
		if r["tenant"] == "t1" && authz.Match(f, r) {
			want = append(want, r["id"].(int))
		}
	}
	require.Equal(t, want, got, "%s %v\n%#v", query, args, f)
}

func TestWhatCannotBeLoweredIsAnError(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]authz.Filter{
		"no filter":             nil,
		"hole":                  authz.Not{},
		"unmapped attribute":    authz.Not{Of: authz.Cmp{Field: "secret", Op: authz.Equal, Value: 1}},
		"unmapped in list":      authz.In{Field: "secret", Values: []any{1}},
		"unmapped is null":      authz.IsNull{Field: "secret"},
		"unmapped under edge":   authz.Edge{Name: "notes", Of: authz.IsNull{Field: "name"}},
		"unmapped edge":         authz.Edge{Name: "emails", Of: authz.True{}},
		"unknown comparison":    authz.Cmp{Field: "name", Op: "LIKE", Value: "%"},
		"prefix of an id":       authz.Cmp{Field: "owner", Op: authz.Prefix, Value: "user_"},
		"prefix of a number":    authz.Cmp{Field: "name", Op: authz.Prefix, Value: 1},
		"value of no column":    authz.Cmp{Field: "name", Op: authz.Equal, Value: []string{"a"}},
		"one of several in And": authz.And{authz.IsNull{Field: "name"}, authz.IsNull{Field: "secret"}},
	} {
		_, err := entfilter.Lower(f, mapper())
		require.Error(t, err, name)
	}
}

func TestPostgresComparesTextByteByByte(t *testing.T) {
	t.Parallel()
	predicate, err := entfilter.Lower(authz.Not{Of: authz.Or{
		authz.Cmp{Field: "name", Op: authz.Less, Value: "b"}, authz.Cmp{Field: "owner", Op: authz.Equal, Value: "user_7"},
	}}, mapper())
	require.NoError(t, err)
	s := sql.Dialect(dialect.Postgres).Select("id").From(sql.Table("deals"))
	s.Where(sql.EQ("tenant", "t1")).Where(predicate(s))
	query, args := s.Query()
	require.Equal(t, `SELECT "id" FROM "deals" WHERE "tenant" = $1 AND (((("deals"."name" COLLATE "C" < $2) OR ("deals"."owner_id" = $3))) IS NOT TRUE)`, query)
	require.Equal(t, []any{"t1", "b", "7"}, args)
}
