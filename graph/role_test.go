package graph_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// Whose a record is, seen by who asks: his own in nobody's team, his team's, or
// that of another team.
const (
	own    = "own"
	teams  = "team's"
	others = "other's"
)

// rights says on whose records each role may do what. It is written down from
// the description of the roles and not from the policy, so that a mistake
// in one of them shows.
var rights = map[string]map[string][]string{
	"read": {
		"viewer": {own, teams}, "agent": {own, teams}, "agent2": {own, teams}, "manager": {own, teams},
		"compliance": {own, teams, others}, "purger": {own, teams, others}, "admin": {own, teams, others},
	},
	"read_retired": {
		"agent": {own}, "agent2": {own}, "manager": {own, teams},
		"compliance": {own, teams, others}, "purger": {own, teams, others}, "admin": {own, teams, others},
	},
	"create":  {"agent": {own, teams}, "agent2": {own, teams}, "manager": {own, teams}, "admin": {own, teams, others}},
	"update":  {"agent": {own, teams}, "agent2": {own, teams}, "manager": {own, teams}, "admin": {own, teams, others}},
	"delete":  {"agent": {own}, "agent2": {own}, "manager": {own, teams}, "admin": {own, teams, others}},
	"archive": {"agent": {own}, "agent2": {own}, "manager": {own, teams}, "admin": {own, teams, others}},
	"suspend": {"agent": {own}, "agent2": {own}, "manager": {own, teams}, "admin": {own, teams, others}},
	"void":    {"manager": {teams}, "admin": {own, teams, others}},
	"restore": {
		"agent": {own}, "agent2": {own}, "manager": {own, teams}, "admin": {own, teams, others},
	},
	"purge":   {"purger": {own, teams, others}},
	"approve": {"manager": {teams}, "admin": {own, teams, others}},
}

var everyRole = []string{"viewer", "agent", "agent2", "manager", "compliance", "purger", "admin"}

// samples are the least that a record of each type is made of, and a field of it to change.
var samples = map[string]struct {
	values  string
	changed string
}{
	"Customer": {`name: "x"`, `name: "y"`}, "Contact": {`name: "x", customerID: $customer`, `name: "y"`},
	"Deal": {`name: "x"`, `name: "y"`}, "Message": {`subject: "x", sentAt: "2026-01-01T00:00:00Z"`, `subject: "y"`},
	"Call": {`startedAt: "2026-01-01T00:00:00Z"`, `fromNumber: "+74951234567"`}, "Task": {`title: "x"`, `title: "y"`},
	"Note": {`body: "x", happenedAt: "2026-01-01T00:00:00Z"`, `body: "y"`}, "Attachment": {`filename: "x", customerID: $customer`, `filename: "y"`},
}

// allowed reports what the table says.
func allowed(role, action, whose string) bool { return slices.Contains(rights[action][role], whose) }

// expected is the code that the table asks for, "" where the request succeeds.
// What cannot be seen is missing, and who could do it to nothing is told so.
func expected(role, action, whose string, retired bool) string {
	see := "read"
	if retired {
		see = "read_retired"
	}
	switch {
	case len(rights[action][role]) == 0:
		return "FORBIDDEN"
	case !allowed(role, see, whose):
		return "NOT_FOUND"
	case !allowed(role, action, whose):
		return "FORBIDDEN"
	}
	return ""
}

// belonging is the owner and the team of a record that is whose for a role.
func (w *world) belonging(role, whose string) (owner, team gid.ID) {
	mine, foreign := w.sales, w.support
	if role == "agent2" {
		mine, foreign = foreign, mine
	}
	switch whose {
	case own:
		return w.users[role], foreign
	case teams:
		return w.users["nobody"], mine
	}
	return w.users["nobody"], foreign
}

// sample makes a record that is whose for a role.
func (w *world) sample(role, whose, typ string, customer gid.ID) gid.ID {
	owner, team := w.belonging(role, whose)
	values := record.Values{"ownerID": owner, "teamID": team}
	switch typ {
	case "Customer", "Deal":
		values["name"] = "x"
	case "Contact":
		values["name"], values["customerID"] = "x", customer
	case "Message":
		values["subject"], values["sentAt"] = "x", w.db.Now()
	case "Call":
		values["startedAt"] = w.db.Now()
	case "Task":
		values["title"] = "x"
	case "Note":
		values["body"], values["happenedAt"] = "x", w.db.Now()
	case "Attachment":
		values["filename"], values["customerID"] = "x", customer
	}
	return w.create("admin", typ, values)
}

// outcome is the code with which a request was refused, as a whole or for its
// one record.
func (a answer) outcome() string {
	if len(a.Errors) > 0 {
		return a.code()
	}
	var data object
	a.w.NoError(json.Unmarshal(a.Data, &data), a.raw)
	code, _ := at(data["x"], "operation", "items", "nodes", 0, "code").(string)
	return code
}

// carry does a lifecycle verb to one record, and answers the outcome.
func (w *world) carry(as, verb string, id gid.ID) string {
	reason := map[string]string{"void": `, reason: "test"`, "suspend": `, until: "2030-01-01T00:00:00Z"`}[verb]
	return w.ask(as, fmt.Sprintf(`mutation { x: %sRecords(input: {select: {ids: [%q]}%s}) { operation { items(first: 1) { nodes { code } } } } }`, verb, id, reason)).outcome()
}

// sees reports whether a role finds a record by its id.
func (w *world) sees(as string, id gid.ID) bool {
	return at(get[object](w, as, fmt.Sprintf(`{ node(id: %q) { id } }`, id)), "node") != nil
}

// TestEveryRoleDoesWhatTheTableSays asks every verb of every role, on records of
// every type that are its own, its team's and another team's.
func TestEveryRoleDoesWhatTheTableSays(t *testing.T) {
	one(t, func(w *world) {
		for _, role := range everyRole {
			// Below it hang the types that cannot stand alone.
			owner, team := w.belonging(role, teams)
			customer := w.create("admin", "Customer", record.Values{"name": "above", "ownerID": owner, "teamID": team})
			for _, typ := range ent.RecordTypes {
				for _, whose := range []string{own, teams, others} {
					w.checkRole(role, typ.Name, whose, customer)
				}
			}
		}
	})
}

func (w *world) checkRole(role, typ, whose string, customer gid.ID) {
	w.t.Helper()
	what := func(action string) string { return strings.Join([]string{role, action, typ, whose}, " ") }
	s := samples[typ]
	owner, team := w.belonging(role, whose)

	variable := ""
	if strings.Contains(s.values, "$customer") {
		variable = "($customer: ID!)"
	}
	a := w.ask(role, fmt.Sprintf(`mutation%s { create%s(input: {ownerID: %q, teamID: %q, %s}) { __typename } }`, variable, typ, owner, team, s.values), vars{"customer": customer})
	want := "" // there is nothing yet that could be hidden
	if !allowed(role, "create", whose) {
		want = "FORBIDDEN"
	}
	w.Equal(want, a.outcome(), "%s: %s", what("create"), a.raw)

	id := w.sample(role, whose, typ, customer)
	w.Equal(allowed(role, "read", whose), w.sees(role, id), what("read"))
	for _, verb := range []string{"delete", "void", "archive", "suspend"} {
		if !allowed(role, verb, whose) { // what succeeds comes below
			w.Equal(expected(role, verb, whose, false), w.carry(role, verb, id), what(verb))
		}
	}
	a = w.ask(role, fmt.Sprintf(`mutation { update%s(input: {id: %q, version: 1, %s}) { __typename } }`, typ, id, s.changed))
	w.Equal(expected(role, "update", whose, false), a.outcome(), "%s: %s", what("update"), a.raw)

	for _, verb := range []string{"archive", "suspend"} {
		if allowed(role, verb, whose) {
			kept := w.sample(role, whose, typ, customer)
			w.Empty(w.carry(role, verb, kept), what(verb))
			w.Equal(expected(role, "restore", whose, false), w.carry(role, "restore", kept), what("restore of what is live"))
		}
	}
	if allowed(role, "void", whose) {
		voided := w.sample(role, whose, typ, customer)
		w.Empty(w.carry(role, "void", voided), what("void"))
	}
	deleter := role
	if !allowed(role, "delete", whose) {
		deleter = "admin"
	}
	w.Empty(w.carry(deleter, "delete", id), what("delete"))
	w.Equal(allowed(role, "read_retired", whose), w.sees(role, id), what("read_retired"))
	w.Equal(expected(role, "restore", whose, true), w.carry(role, "restore", id), what("restore"))
	if allowed(role, "restore", whose) {
		w.Empty(w.carry("admin", "delete", id), what("restore"))
	}
	w.checkUndo(role, typ, whose, customer)
	w.Equal(expected(role, "purge", whose, true), w.carry(role, "purge", id), what("purge"))
}

// readsOperations are the roles that read what others of their team did; each reads what he did himself.
var readsOperations = []string{"manager", "compliance", "purger", "admin"}

// checkUndo lets a role take back a deletion: another's, and its own.
func (w *world) checkUndo(role, typ, whose string, customer gid.ID) {
	w.t.Helper()
	undo := func(op string) string {
		return w.ask(role, fmt.Sprintf(`mutation { x: undoOperation(input: {id: %q}) { operation { items(first: 1) { nodes { code } } } } }`, op)).outcome()
	}
	what := strings.Join([]string{role, "undo", typ, whose}, " ")
	want := expected(role, "restore", whose, true)
	switch {
	case !slices.Contains(readsOperations, role):
		want = "NOT_FOUND" // the operation
	case want == "NOT_FOUND":
		want = "" // he reads the operation, and nothing of what it did: there is nothing to take back
	}
	record := w.sample(role, whose, typ, customer)
	w.Equal(want, undo(w.deleted("admin", record)), what)
	state := at(get[object](w, "compliance", fmt.Sprintf(`{ node(id: %q) { ... on Record { state } } }`, record)), "node", "state")
	w.Equal(want == "" && allowed(role, "restore", whose), state == "ACTIVE", what)
	if allowed(role, "delete", whose) {
		w.Equal(expected(role, "restore", whose, true), undo(w.deleted(role, w.sample(role, whose, typ, customer))), "%s, its own", what)
	}
}

// TestEveryRoleApprovesWhatTheTableSays asks every role to agree to a deletion, where a rule asks everybody who has it:
// to have the role that is asked is not enough.
func TestEveryRoleApprovesWhatTheTableSays(t *testing.T) {
	one(t, func(w *world) {
		w.seed()
		w.Empty(w.ask("admin", `mutation { setApprovalRule(input: {name: "all", subject: DELETE, role: "nobody"}) { rules { name } } }`).Errors)
		for _, role := range everyRole {
			w.exec(`UPDATE approval_rules SET role = ? WHERE name = 'all'`, strings.TrimSuffix(role, "2"))
			for _, whose := range []string{own, teams, others} {
				id := w.sample(role, whose, "Task", gid.Nil)
				requester := "admin"
				if role == "admin" { // nobody else may delete all of these
					requester = "manager"
					w.exec(`UPDATE tasks SET owner_id = ? WHERE id = ?`, w.users["manager"], id)
				}
				got := get[object](w, requester, `mutation($id: ID!) { deleteRecords(input: {select: {ids: [$id]}}) { operation { id status } } }`, vars{"id": id.String()})
				w.Equal("PENDING_APPROVAL", at(got, "deleteRecords", "operation", "status"), "%s %s", role, whose)
				op := at(got, "deleteRecords", "operation", "id")
				w.exec(`UPDATE operations SET team_id = NULL`) // whose managers do not read it for that
				a := w.ask(role, `mutation($id: ID!) { approveOperation(input: {id: $id}) { operation { status } } }`, vars{"id": op})
				want := ""
				if !allowed(role, "approve", whose) {
					want = "NOT_FOUND" // or, to who reads the operation
					if slices.Contains([]string{"compliance", "purger"}, role) {
						want = "FORBIDDEN"
					}
				}
				code := ""
				if len(a.Errors) > 0 {
					code = a.code()
				}
				w.Equal(want, code, "%s %s: %s", role, whose, a.raw)
			}
		}
	})
}
