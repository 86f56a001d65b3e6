package pdp_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// search follows a search to its end, and answers the ids or names on each page.
func (s *served) search(what string, body object, limit int) [][]string {
	s.w.Helper()
	var pages [][]string
	for token := ""; ; {
		body["page"] = object{"limit": limit, "token": token}
		status, got := s.ask("search/"+what, body)
		require.Equal(s.w, http.StatusOK, status, got)
		ids := []string{}
		for _, v := range got["results"].([]any) {
			if what == "action" {
				ids = append(ids, v.(object)["name"].(string))
			} else {
				ids = append(ids, v.(object)["id"].(string))
			}
		}
		pages = append(pages, ids)
		page := got["page"].(object)
		require.EqualValues(s.w, len(ids), page["count"])
		if token = page["next_token"].(string); token == "" {
			return pages
		}
		require.Less(s.w, len(pages), 20, "there is an end")
	}
}

func (s *served) all(what string, body object) []string {
	return slices.Concat(s.search(what, body, 500)...)
}

func read(subject, resource object) object {
	return object{"subject": subject, "action": object{"name": "read"}, "resource": resource}
}

func TestASearchFindsWhatEvaluationsPermit(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		s := w.serve("")
		ours := []string{s.customer("agent", "1"), s.customer("manager", "2"), s.customer("agent", "3")}
		theirs := s.customer("outsider", "4")
		gone := s.customer("agent", "5")
		s.delete("agent", gone)
		customers := object{"type": "Customer"}

		require.Equal(w, ours, s.all("resource", read(user(w.id("agent")), customers)))
		require.Equal(w, []string{theirs}, s.all("resource", read(user(w.id("outsider")), customers)))
		require.Empty(w, s.all("resource", read(user(w.id("admin")), customers)), "here nobody gave the admin his role")
		require.Equal(w, append(slices.Clone(ours), theirs), s.all("resource", read(thing("role", "admin"), customers)))
		for action, want := range map[string][]string{
			"delete": {ours[0], ours[2], gone}, "read_retired": {gone}, "restore": {ours[0], ours[2], gone}, "create": {}, "purge": {}, "fly": {},
		} {
			body := read(user(w.id("agent")), customers)
			body["action"] = object{"name": action}
			require.Equal(w, want, append([]string{}, s.all("resource", body)...), action)
		}

		require.ElementsMatch(w, []string{w.id("agent"), w.id("manager")}, s.all("subject", read(object{"type": "user"}, thing("Customer", ours[0]))))
		require.NoError(w, w.people.DeactivateUser(w.Context(), w.tenant, w.users["manager"]))
		require.Equal(w, []string{w.id("agent")}, s.all("subject", read(object{"type": "user"}, thing("Customer", ours[0]))))
		require.Empty(w, s.all("subject", read(object{"type": "user"}, thing("Customer", gone))), "what is in the bin is not read")

		require.Equal(w, []string{"read", "update", "delete", "archive", "suspend", "restore"},
			s.all("action", object{"subject": user(w.id("agent")), "resource": thing("Customer", ours[0])}))
		require.Equal(w, []string{"read", "update"}, s.all("action", object{"subject": user(w.id("agent")), "resource": thing("Customer", ours[1])}))
		require.Empty(w, s.all("action", object{"subject": user(w.id("manager")), "resource": thing("Customer", ours[1])}))
	})
}

func TestWhatNobodyKnowsIsFoundNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	s := w.serve("")
	admin := thing("role", "admin") // a rule of his is about every type
	known := s.customer("agent", "1")
	for name, c := range map[string]struct {
		what string
		body object
	}{
		"a type of subjects":               {"subject", read(object{"type": "spaceship"}, thing("Customer", known))},
		"a type of resources to subjects":  {"subject", read(object{"type": "user"}, thing("spaceship", "1"))},
		"a record":                         {"subject", read(object{"type": "user"}, thing("Customer", "7"))},
		"a type of resources":              {"resource", read(admin, object{"type": "spaceship"})},
		"a subject":                        {"resource", read(user("nobody"), object{"type": "Customer"})},
		"a type of subjects, to resources": {"resource", read(thing("spaceship", "1"), object{"type": "Customer"})},
		"a type of resources to actions":   {"action", object{"subject": admin, "resource": thing("spaceship", "1")}},
		"a record to actions":              {"action", object{"subject": admin, "resource": thing("Customer", "7")}},
		"a subject to actions":             {"action", object{"subject": user("nobody"), "resource": thing("Customer", known)}},
	} {
		require.Empty(t, s.all(c.what, c.body), name)
	}
}

func TestASearchIsReadInPages(t *testing.T) {
	t.Parallel()
	each(t, func(w *world) {
		s := w.serve("")
		var all []string
		for i := range 5 {
			all = append(all, s.customer("agent", fmt.Sprint(i)))
			s.customer("outsider", fmt.Sprint("other", i))
		}
		body := read(user(w.id("agent")), object{"type": "Customer"})
		require.Equal(w, [][]string{all[:2], all[2:4], all[4:]}, s.search("resource", body, 2))
		require.Equal(w, [][]string{all}, s.search("resource", body, 5), "a full page that is the last says so")

		subjects := read(object{"type": "user"}, thing("Customer", all[0]))
		require.Equal(w, [][]string{{w.id("agent")}, {w.id("manager")}}, s.search("subject", subjects, 1))

		body["page"] = object{"limit": 2}
		_, got := s.ask("search/resource", body)
		other := read(user(w.id("manager")), object{"type": "Customer"})
		other["page"] = object{"token": got["page"].(object)["next_token"]}
		status, _ := s.ask("search/resource", other)
		require.Equal(w, http.StatusBadRequest, status, "a token belongs to its search")

		// Who may read five of ten has five read, whatever the number of the others.
		s.search("resource", body, 500)
		body["page"] = nil
		sent := w.statements.during(func() { _, got = s.ask("search/resource", body) })
		require.Len(w, got["results"], 5)
		require.True(w, slices.ContainsFunc(sent, func(q string) bool {
			_, where, _ := strings.Cut(q, "WHERE")
			return strings.Contains(q, "customers") && strings.Contains(where, "owner_id") && strings.Contains(where, "LIMIT")
		}), "the filter is the database's:\n%s", strings.Join(sent, "\n"))
	})
}

func TestASearchOfManyUsersEndsAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite)
	s := w.serve("")
	known := s.customer("agent", "1")
	for i := range 1_050 { // more than a search looks at in one go; nobody of them may read anything
		_, err := w.people.CreateUser(t.Context(), w.tenant, fmt.Sprintf("u%d@acme.example", i), "u", nil)
		require.NoError(t, err)
	}
	last, err := w.people.CreateUser(t.Context(), w.tenant, "last@acme.example", "last", []string{"Sales"})
	require.NoError(t, err)
	w.users["last"] = last
	pages := s.search("subject", read(object{"type": "user"}, thing("Customer", known)), 500)
	require.Len(t, pages, 2)
	require.Equal(t, []string{w.id("agent"), w.id("manager")}, pages[0])
}
