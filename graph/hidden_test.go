package graph_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// hiding is who may not read a record, and why.
type hiding struct {
	why, as string
	retired bool
}

var hidings = []hiding{
	{"another tenant's", "stranger", false},
	{"another tenant's, retired", "stranger", true},
	{"another team's", "agent", false},
	{"retired, for who may not read that", "viewer", true},
	{"retired, another's", "agent", true},
}

// hidden makes a record of a type that is hidden in that way.
func (w *world) hidden(h hiding, typ string, more record.Values) gid.ID {
	w.t.Helper()
	values := record.Values{"ownerID": w.users["nobody"], "teamID": w.sales}
	if !h.retired {
		values["teamID"] = w.support
	}
	switch typ {
	case "Customer", "Deal", "Contact":
		values["name"] = "hidden"
	case "Message":
		values["subject"], values["sentAt"] = "hidden", w.db.Now()
	case "Call":
		values["startedAt"] = w.db.Now()
	case "Task":
		values["title"] = "hidden"
	case "Note":
		values["body"], values["happenedAt"] = "hidden", w.db.Now()
	case "Attachment":
		values["filename"] = "hidden"
	}
	maps.Copy(values, more)
	if (typ == "Contact" || typ == "Attachment") && !slices.ContainsFunc(ent.RecordTypeNamed(typ).Edges, func(e ent.RecordReference) bool {
		return values[e.GraphQL] != nil && e.Class != "WEAK"
	}) {
		values["customerID"] = w.create("admin", "Customer", record.Values{"name": "above", "teamID": w.support, "ownerID": w.users["nobody"]})
	}
	id := w.create("admin", typ, values)
	if h.retired {
		w.deleted("admin", id)
	}
	return id
}

// pointing makes records that a user may read, and that point to one he may not.
func (w *world) pointing(as, typ string, to gid.ID) {
	w.t.Helper()
	for _, from := range ent.RecordTypes {
		for _, e := range from.Edges {
			if e.Target == typ {
				holder := w.hidden(hiding{}, from.Name, record.Values{"ownerID": w.users[as]})
				w.exec(`UPDATE `+from.Table+` SET `+e.Column+` = ? WHERE id = ?`, to, holder)
			}
		}
	}
}

func plural(typ string) string { return strings.ToLower(typ) + "s" }

// schema is the published one, from which the tests read where records may show.
func schema(t *testing.T) *ast.Schema {
	t.Helper()
	s, err := gqlparser.LoadSchema(&ast.Source{Name: "contract.graphql", Input: graph.SDL()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// questions ask for a record of a type by its id, $id, in every way that the schema has.
func questions(s *ast.Schema, typ string) []string {
	const outcome = `operation { status total changed failed items(first: 9) { totalCount nodes { recordID outcome code message label type priorState record { id } blockers { code count hidden } } } }`
	qs := []string{
		`query($id: ID!) { node(id: $id) { __typename id ... on Record { state version } } }`,
		`query($id: ID!) { nodes(ids: [$id, $id]) { id } }`,
		`query($id: ID!) { auditEvents(first: 9, where: {recordID: $id}) { totalCount nodes { id action } } }`,
		`query($id: ID!) { whyNot(id: $id, action: DELETE) { code message blockers { code count hidden } } }`,
		`query($id: ID!) { whyNot(id: $id, action: READ) { code message } }`,
		`query($id: ID!) { whyNot(id: $id, action: RESTORE) { code message } }`,
		`mutation($id: ID!) { update` + typ + `(input: {id: $id, version: 1, ownerID: null}) { __typename } }`,
	}
	for _, states := range []string{"", ", states: [ACTIVE, ARCHIVED, SUSPENDED, VOIDED, DELETED]"} {
		qs = append(qs, `query($id: ID!) { `+plural(typ)+`(first: 9, where: {id: $id}`+states+`) { totalCount nodes { id } pageInfo { hasNextPage endCursor } } }`)
	}
	qs = append(qs,
		`mutation($id: ID!) { purgeRecords(input: {select: {ids: [$id]}, includeLive: true}) { `+outcome+` } }`,
		`mutation($id: ID!) { deleteRecords(input: {select: {ids: [$id]}, runAt: "2099-01-01T00:00:00Z"}) { `+outcome+` } }`,
		`mutation($id: ID!) { placeHold(input: {name: "h", reason: "r", records: [$id]}) { hold { name } } }`,
	)
	for _, verb := range []string{"delete", "void", "archive", "suspend", "restore", "purge"} {
		reason := `, reason: "test"`
		if verb == "suspend" {
			reason += `, until: "2099-01-01T00:00:00Z"`
		}
		for _, selection := range []string{
			`ids: [$id]`, `records: [{id: $id, version: 1}]`, plural(typ) + `: {id: $id}`,
		} {
			counted := ""
			if strings.HasPrefix(selection, plural(typ)) {
				counted = ", expectedCount: 0"
			}
			qs = append(qs,
				`mutation($id: ID!) { `+verb+`Records(input: {select: {`+selection+`}`+reason+counted+`, mode: BEST_EFFORT}) { `+outcome+` } }`,
				`query($id: ID!) { preview(input: {`+verb+`: {select: {`+selection+`}`+reason+counted+`}}) { total byType { type count } items(first: 9) { nodes { recordID outcome code label } } blockers { code count hidden } affectedUsers { id } } }`)
		}
	}
	// What leads to it from records of other types.
	for name, def := range s.Types {
		from, isFilter := strings.CutSuffix(name, "WhereInput")
		if !isFilter || ent.RecordTypeNamed(from) == nil {
			continue
		}
		for _, f := range def.Fields {
			if strings.HasSuffix(f.Name, "With") && f.Type.Name() == typ+"WhereInput" {
				qs = append(qs, `query($id: ID!) { `+plural(from)+`(first: 9, where: {`+f.Name+`: [{id: $id}]}) { totalCount nodes { id } } }`,
					`query($id: ID!) { `+plural(from)+`(first: 9, where: {not: {`+f.Name+`: [{id: $id}]}}) { totalCount } }`)
			}
		}
		for _, e := range ent.RecordTypeNamed(from).Edges {
			if e.Target == typ && def.Fields.ForName(e.GraphQL) != nil {
				qs = append(qs, `query($id: ID!) { `+plural(from)+`(first: 9, where: {`+e.GraphQL+`: $id}) { totalCount nodes { id } } }`,
					`query($id: ID!) { `+plural(from)+`(first: 9, where: {`+e.GraphQL+`In: [$id]}) { totalCount } }`)
			}
		}
	}
	for _, from := range ent.RecordTypes {
		for _, e := range from.Edges {
			if e.Target != typ {
				continue
			}
			needs := strings.ReplaceAll(samples[from.Name].values, ", customerID: $customer", "")
			qs = append(qs, `mutation($id: ID!) { create`+from.Name+`(input: {`+needs+`, `+e.GraphQL+`: $id}) { __typename } }`)
		}
	}
	if typ == "Customer" {
		qs = append(qs, `query($id: ID!) { timeline(customer: $id, first: 9) { totalCount nodes { __typename } } }`)
	}
	return qs
}

var anyID = regexp.MustCompile(`[a-z]+_[0-9a-z]{26}`)

var decision = regexp.MustCompile(`"decisionID":"[^"]*"`)

// alike are answers without the ids in them.
func alike(a answer) string { return fmt.Sprint(a.Status, " ", anyID.ReplaceAllString(a.raw, "ID")) }

// TestWhoMayReadIsToldMore holds against the questions that a reader's answers differ from those about nothing, or they
// would prove nothing about hidden records.
func TestWhoMayReadIsToldMore(t *testing.T) {
	s := schema(t)
	one(t, func(w *world) {
		for _, typ := range ent.RecordTypes {
			asked, told := 0, 0
			for _, q := range questions(s, typ.Name) {
				there := w.hidden(hiding{}, typ.Name, nil)
				w.pointing("admin", typ.Name, there)
				asked++
				if alike(w.ask("admin", q, vars{"id": gid.New(typ.Type)})) != alike(w.ask("admin", q, vars{"id": there})) {
					told++
				}
			}
			w.Greater(told, asked/2, "%s: %d of %d", typ.Name, told, asked)
		}
	})
}

// TestTheHiddenIsTheSameAsTheMissing asks for hidden records and for ids of nothing, in every way: answers, errors and
// the number of statements are the same.
func TestTheHiddenIsTheSameAsTheMissing(t *testing.T) {
	s := schema(t)
	one(t, func(w *world) {
		for _, h := range hidings {
			for _, typ := range ent.RecordTypes {
				there, missing := w.hidden(h, typ.Name, nil), gid.New(typ.Type)
				if h.as != "stranger" {
					w.pointing(h.as, typ.Name, there)
				}
				for _, q := range questions(s, typ.Name) {
					w.sql.take()
					none := w.ask(h.as, q, vars{"id": missing})
					without := len(w.sql.take())
					some := w.ask(h.as, q, vars{"id": there})
					with := len(w.sql.take())
					w.Equal(alike(none), alike(some), "%s, %s, %s: %s", h.why, h.as, typ.Name, q)
					w.NotContains(none.raw, "GRAPHQL_VALIDATION_FAILED", q)
					w.Equal(without, with, "statements: %s, %s, %s: %s", h.why, h.as, typ.Name, q)
				}
			}
		}
	})
}

// views list everything that a reader can list, with the edges of each record, in every order.
func views(s *ast.Schema, customer gid.ID) []string {
	const states = "states: [ACTIVE, ARCHIVED, SUSPENDED, VOIDED, DELETED]"
	var out []string
	for _, t := range ent.RecordTypes {
		var edges []string
		for _, f := range s.Types[t.Name].Fields {
			of, isConnection := strings.CutSuffix(f.Type.Name(), "Connection")
			switch {
			case isConnection && ent.RecordTypeNamed(of) != nil:
				edges = append(edges, f.Name+`(first: 50, `+states+`) { totalCount nodes { id label } }`)
			case ent.RecordTypeNamed(f.Type.Name()) != nil:
				edges = append(edges, f.Name+` { id label }`)
			case f.Type.Name() == "RecordRef":
				edges = append(edges, f.Name+` { id state type }`)
			}
		}
		history := `history(first: 50) { totalCount nodes { id recordID changes { field old new } } }`
		for _, v := range s.Types[t.Name+"OrderField"].EnumValues {
			for _, direction := range []string{"ASC", "DESC"} {
				out = append(out, `{ `+plural(t.Name)+`(first: 50, `+states+`, orderBy: {field: `+v.Name+`, direction: `+direction+`}) { totalCount pageInfo { hasNextPage } nodes { id label } } }`)
			}
		}
		out = append(out,
			`{ `+plural(t.Name)+`(first: 50, `+states+`) { totalCount nodes { id label viewerCan `+history+` `+strings.Join(edges, " ")+` } } }`,
			`{ `+plural(t.Name)+`(last: 50, `+states+`) { totalCount edges { node { id label } } } }`)
	}
	for name, def := range s.Types { // whether there is something at the other end of an edge
		from, isFilter := strings.CutSuffix(name, "WhereInput")
		if !isFilter || ent.RecordTypeNamed(from) == nil {
			continue
		}
		for _, f := range def.Fields {
			if strings.HasPrefix(f.Name, "has") && f.Type.Name() == "Boolean" {
				for _, v := range []string{"true", "false"} {
					out = append(out, `{ `+plural(from)+`(first: 50, where: {`+f.Name+`: `+v+`}) { totalCount nodes { id } } }`)
				}
			}
		}
	}
	return append(out,
		`{ bin(first: 50) { totalCount nodes { id label } } }`,
		`{ operations(first: 50) { totalCount nodes { id items(first: 50) { totalCount nodes { recordID label } } } } }`,
		`{ auditEvents(first: 50) { totalCount nodes { id recordID } } }`,
		fmt.Sprintf(`{ timeline(customer: %q, first: 50) { totalCount nodes { ... on Record { id label } } } }`, customer),
		fmt.Sprintf(`{ preview(input: {delete: {select: {ids: [%q]}, cascade: true, reason: "test"}}) { affectedUsers { id } brokenThreads { subject going staying } items(first: 50) { nodes { recordID label } } } }`, customer),
	)
}

// TestHiddenRecordsShowNowhere lists everything before and after records come that the reader may not read, beside and
// below those that he may: what he is answered does not change.
func TestHiddenRecordsShowNowhere(t *testing.T) {
	s := schema(t)
	one(t, func(w *world) {
		for _, h := range hidings {
			if h.why == "another tenant's, retired" {
				continue
			}
			visible := map[string]gid.ID{}
			mine := record.Values{"ownerID": w.users[h.as]}
			if h.as == "stranger" {
				visible["Customer"] = w.customer("stranger", "visible")
			} else {
				visible["Customer"] = w.hidden(hiding{}, "Customer", mine)
				for _, t := range ent.RecordTypes {
					if t.Name != "Customer" {
						visible[t.Name] = w.hidden(hiding{}, t.Name, record.Values{"ownerID": w.users[h.as], "customerID": visible["Customer"]})
					}
				}
			}
			documents := views(s, visible["Customer"])
			var before []string
			var secret []gid.ID
			for _, d := range documents {
				a := w.ask(h.as, d)
				w.NotContains(a.raw, "GRAPHQL_VALIDATION_FAILED", d)
				before = append(before, a.raw)
			}
			for _, t := range ent.RecordTypes {
				for _, e := range t.Edges {
					above := record.Values{}
					if id, ok := visible[e.Target]; ok && h.as != "stranger" {
						above[e.GraphQL] = id
					}
					secret = append(secret, w.hidden(h, t.Name, above))
				}
				secret = append(secret, w.hidden(h, t.Name, nil))
			}
			for i, d := range documents {
				got := w.ask(h.as, d).raw
				if strings.Contains(d, "preview(") && h.as == "agent" && !h.retired {
					// That something he may not read stands in the way of a cascade is told, but not what.
					for _, id := range secret {
						w.NotContains(got, id.String(), d)
					}
					continue
				}
				w.Equal(decision.ReplaceAllString(before[i], ""), decision.ReplaceAllString(got, ""), "%s, %s: %s", h.why, h.as, d)
			}
		}
	})
}

// TestWhatRecordsPointToIsHiddenWithIt lists records that point to others which the reader may not read.
func TestWhatRecordsPointToIsHiddenWithIt(t *testing.T) {
	s := schema(t)
	one(t, func(w *world) {
		for _, h := range hidings {
			if h.as == "stranger" {
				continue
			}
			customer := w.hidden(hiding{}, "Customer", record.Values{"ownerID": w.users[h.as]})
			var secret []gid.ID
			for _, t := range ent.RecordTypes {
				id := w.hidden(h, t.Name, nil)
				w.pointing(h.as, t.Name, id)
				secret = append(secret, id)
			}
			for _, d := range views(s, customer) {
				raw := w.ask(h.as, d).raw
				for _, id := range secret {
					w.NotContains(raw, id.String(), "%s, %s: %s", h.why, h.as, d)
				}
			}
		}
	})
}
