package record_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestEveryTypeCanBeFilteredByTextThatIsKept(t *testing.T) {
	t.Parallel()
	id := gid.New(gid.Customer).String()
	for _, typ := range ent.RecordTypes {
		f, err := record.ParseFilter(typ.Name, []byte(`{"idNEQ": "`+id+`"}`))
		require.NoError(t, err, typ.Name)
		require.Equal(t, typ.Name, f.Type)
		require.Equal(t, 1, f.Comparisons)
		require.NotNil(t, f.Where)
		require.JSONEq(t, `{"idNEQ": "`+id+`"}`, string(f.Text))
	}
}

func TestKeptFiltersAreCanonical(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		` {"emailContains":"x", "nameContains" : "b"} `:                            `{"nameContains":"b","emailContains":"x"}`, // in the order of the API
		`{"or":[{"email":"a"},{"not":{"emailIsNil":true}}], "idIn": []}`:           "",
		`{"or":[{"email":"a"},{"not":{"emailIsNil":true}}]}`:                       `{"or":[{"email":"a"},{"not":{"emailIsNil":true}}]}`,
		`{"createdAtGT":"2026-03-01T10:00:00+01:00","emailIsNil":false}`:           `{"createdAtGT":"2026-03-01T10:00:00+01:00"}`,
		`{"hasMessagesWith":[{"direction":"INBOUND","subjectHasPrefix":"Re: "}]}`:  `{"hasMessagesWith":[{"direction":"INBOUND","subjectHasPrefix":"Re: "}]}`,
		`{"hasMessagesWith":[{"direction":"SIDEWAYS","subjectHasPrefix":"Re: "}]}`: "",
	} {
		f, err := record.ParseFilter("Customer", []byte(text))
		if want == "" {
			require.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, string(f.Text))
		again, err := record.ParseFilter("Customer", f.Text)
		require.NoError(t, err)
		require.Equal(t, f.Text, again.Text, "canonical text must read as itself")
	}
}

func TestKeptFiltersAreReadStrictly(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON":               `{"email": `,
		"something behind it":   `{"email": "a"} {}`,
		"no object":             `["email"]`,
		"an unknown field":      `{"emailLike": "a"}`,
		"an unknown field deep": `{"and": [{"hasMessagesWith": [{"subjectLike": "a"}]}]}`,
		"another case":          `{"EmailContains": "a"}`,
		"a field twice":         `{"email": "a", "email": "b"}`,
		"null":                  `{"email": "a", "ownerID": null}`,
		"null in a list":        `{"or": [{"email": "a"}, null]}`,
		"null among values":     `{"emailIn": ["a", null]}`,
		"an empty list":         `{"email": "a", "idIn": []}`,
		"the wrong kind":        `{"email": 1}`,
		"an id of nothing":      `{"ownerID": "42"}`,
		"an empty id":           `{"ownerID": ""}`,
		"a NUL":                 `{"email": "a\u0000b"}`,
		"nothing compared":      `{}`,
		"every text":            `{"emailContains": ""}`,
		"a branch of nothing":   `{"or": [{"email": "a"}, {}]}`,
		"not nothing":           `{"not": {}}`,
		"inner predicates":      `{"Predicates": [], "email": "a"}`,
		"a dash":                `{"-": [], "email": "a"}`,
		"a long pattern":        `{"emailContains": "` + strings.Repeat("a", ent.MaxPattern+1) + `"}`,
		"too long":              `{"email": "` + strings.Repeat("a", record.MaxFilter) + `"}`,
	} {
		_, err := record.ParseFilter("Customer", []byte(text))
		var refused *record.Error
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, lifecycle.InvalidFilter, refused.Code, name)
		require.Equal(t, []string{"filter"}, refused.Fields, name)
	}
	_, err := record.ParseFilter("User", []byte(`{"name": "a"}`))
	require.Error(t, err, "users are no records")
}

func TestFiltersOfTheAPICanBeKept(t *testing.T) {
	t.Parallel()
	email := "a"
	kept, err := record.KeptFilter(&ent.CustomerWhereInput{EmailContains: &email})
	require.NoError(t, err)
	require.JSONEq(t, `{"emailContains":"a"}`, string(kept.Text))
	for name, where := range map[string]*ent.CustomerWhereInput{
		"nothing":           {},
		"an empty list":     {EmailContains: &email, IDIn: []gid.ID{}}, // selects nothing, and would come back as everything
		"one inside":        {EmailContains: &email, Not: &ent.CustomerWhereInput{IDIn: []gid.ID{}}},
		"one inside a list": {Or: []*ent.CustomerWhereInput{{Email: &email}, {EmailContains: &email, IDIn: []gid.ID{}}}},
	} {
		_, err := record.KeptFilter(where)
		require.Error(t, err, name)
	}
	var none *ent.CustomerWhereInput
	_, err = record.KeptFilter(none)
	require.Error(t, err)
}

func TestAKeptFilterSelectsWhatItSays(t *testing.T) {
	each(t, func(w *world) {
		acme, rome := w.customer("admin", "acme"), w.customer("admin", "rome")
		w.message("admin", rome, "an offer")
		for text, want := range map[string][]gid.ID{
			`{"emailContains": "acme@"}`:                             {acme},
			`{"hasMessagesWith": [{"subjectHasPrefix": "an off"}]}`:  {rome},
			`{"or": [{"name": "acme"}, {"name": "rome"}]}`:           {acme, rome},
			`{"and": [{"emailContains": "example"}, {"name": "x"}]}`: nil,
		} {
			f, err := record.ParseFilter("Customer", []byte(text))
			require.NoError(t, err)
			found, err := w.svc.Client(w.as("admin")).CollectRecords(w.as("admin"), "Customer", nil, []string{"id"}, f.Where)
			require.NoError(t, err)
			var ids []gid.ID
			for _, r := range found {
				ids = append(ids, r.RecordID())
			}
			slices.SortFunc(ids, func(a, b gid.ID) int { return slices.Compare(a[:], b[:]) })
			require.Equal(w.t, want, ids, text)
		}
	})
}
