package graph_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

// act sends a verb and asks for all that its operation says of codes.
func (w *world) act(as, verb, input string) answer {
	w.t.Helper()
	return w.ask(as, fmt.Sprintf(`mutation { %s(input: {%s}) { operation { id status code items(first: 20) { nodes { outcome code message blockers { code } } } } } }`, verb, input))
}

// ofIDs selects records.
func ofIDs(list ...gid.ID) string {
	quoted := make([]string, len(list))
	for i, id := range list {
		quoted[i] = `"` + id.String() + `"`
	}
	return `select: {ids: [` + strings.Join(quoted, ", ") + `]}`
}

// codes are all that an answer says: of errors, items and blockers.
func (a answer) codes() []string {
	var found []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case object:
			for name, value := range v {
				if text, ok := value.(string); ok && (name == "code" || name == "cause") {
					found = append(found, text)
				}
				walk(value)
			}
		case []any:
			for _, value := range v {
				walk(value)
			}
		}
	}
	var all any
	a.w.NoError(json.Unmarshal([]byte(a.raw), &all))
	walk(all)
	return found
}

// TestEveryCodeIsProduced produces each code of the API through GraphQL, and insists that there are no others.
func TestEveryCodeIsProduced(t *testing.T) {
	produced := map[lifecycle.Code]func(w *world) answer{
		lifecycle.NotFound: func(w *world) answer { return w.act("admin", "deleteRecords", ofIDs(gid.New(gid.Customer))) },
		lifecycle.Forbidden: func(w *world) answer {
			return w.act("agent", "deleteRecords", ofIDs(w.customer("manager", "another's")))
		},
		lifecycle.FieldForbidden: func(w *world) answer {
			w.hide("viewer", "Customer.email", "read", "any")
			return w.ask("viewer", `{ customers(first: 1, where: {emailContains: "a"}) { totalCount } }`)
		},
		lifecycle.IllegalTransition: func(w *world) answer {
			c := w.customer("admin", "deleted")
			w.deleted("admin", c)
			return w.act("admin", "archiveRecords", ofIDs(c))
		},
		lifecycle.NotRetired: func(w *world) answer { return w.act("purger", "purgeRecords", ofIDs(w.customer("admin", "live"))) },
		lifecycle.RecordNotEditable: func(w *world) answer {
			c := w.customer("admin", "archived")
			w.act("admin", "archiveRecords", ofIDs(c))
			return w.ask("admin", fmt.Sprintf(`mutation { updateCustomer(input: {id: %q, version: 2, name: "x"}) { customer { id } } }`, c))
		},
		lifecycle.Conflict: func(w *world) answer {
			return w.act("admin", "deleteRecords", fmt.Sprintf(`select: {records: [{id: %q, version: 7}]}`, w.customer("admin", "moved on")))
		},
		lifecycle.UniqueConflict: func(w *world) answer {
			w.create("admin", "Customer", record.Values{"name": "one", "email": "same@example.com"})
			return w.ask("admin", `mutation { createCustomer(input: {name: "other", email: "same@example.com"}) { customer { id } } }`)
		},
		lifecycle.HasDependents: func(w *world) answer {
			c := w.customer("admin", "with a deal")
			w.create("admin", "Deal", record.Values{"name": "live", "customerID": c})
			return w.act("admin", "deleteRecords", ofIDs(c))
		},
		lifecycle.ParentRetired: func(w *world) answer {
			c := w.customer("admin", "gone")
			child := w.contact("admin", c, "child")
			w.deleted("admin", c)
			return w.act("admin", "restoreRecords", ofIDs(child))
		},
		lifecycle.Hold: func(w *world) answer {
			c := w.customer("admin", "held")
			w.hold("compliance", "blockDelete: true", c)
			return w.act("admin", "deleteRecords", ofIDs(c))
		},
		lifecycle.Retained: func(w *world) answer {
			c := w.customer("agent", "held, of which the agent may not know")
			w.hold("compliance", "blockDelete: true", c)
			return w.act("agent", "deleteRecords", ofIDs(c))
		},
		lifecycle.InvalidFilter: func(w *world) answer {
			return w.act("admin", "deleteRecords", `select: {customers: {or: [{}]}}, expectedCount: 0`)
		},
		lifecycle.Limit: func(w *world) answer {
			w.exec(`UPDATE tenants SET brake_hour = 0`)
			return w.act("admin", "deleteRecords", ofIDs(w.customer("admin", "one too many")))
		},
		lifecycle.DuplicateInput: func(w *world) answer {
			c := w.customer("admin", "twice")
			return w.act("admin", "deleteRecords", ofIDs(c, c))
		},
		lifecycle.IdempotencyMismatch: func(w *world) answer {
			w.act("admin", "deleteRecords", ofIDs(w.customer("admin", "a"))+`, idempotencyKey: "once"`)
			return w.act("admin", "deleteRecords", ofIDs(w.customer("admin", "b"))+`, idempotencyKey: "once"`)
		},
		lifecycle.Gone: func(w *world) answer {
			c := w.customer("admin", "purged")
			w.deleted("admin", c)
			w.act("purger", "purgeRecords", ofIDs(c))
			return w.act("admin", "restoreRecords", ofIDs(c))
		},
		lifecycle.Lockout: func(w *world) answer {
			w.storePolicy()
			return w.ask("admin", deactivate, vars{"id": w.users["admin"].String()})
		},
		lifecycle.ApprovalRequired: func(w *world) answer {
			w.seed()
			w.deleted("agent", w.customer("agent", "a"))
			return w.ask("purger", `{ preview(input: {emptyBin: {}}) { blockers { code } } }`)
		},
		lifecycle.SelfApproval: func(w *world) answer {
			return w.ask("purger", `mutation($id: ID!) { approveOperation(input: {id: $id}) { operation { id } } }`, vars{"id": w.pending()})
		},
		lifecycle.Stale: func(w *world) answer {
			op := w.pending()
			w.exec(`UPDATE customers SET version = version + 1`)
			w.Empty(w.ask("admin", `mutation($id: ID!) { approveOperation(input: {id: $id}) { operation { id } } }`, vars{"id": op}).Errors)
			w.runsApproved(1)
			return w.ask("purger", `query($id: ID!) { operation(id: $id) { items(first: 1) { nodes { code } } } }`, vars{"id": op})
		},
		lifecycle.ExportRequired: func(w *world) answer {
			w.requireExport("[DELETE]")
			return w.act("admin", "deleteRecords", ofIDs(w.customer("admin", "not exported")))
		},
		lifecycle.ExportStale: func(w *world) answer {
			w.requireExport("[DELETE]")
			c := w.customer("admin", "exported")
			w.exported("admin", "CUSTOMER")
			w.Empty(w.ask("admin", fmt.Sprintf(`mutation { updateCustomer(input: {id: %q, version: 1, name: "x"}) { customer { id } } }`, c)).Errors)
			return w.act("admin", "deleteRecords", ofIDs(c))
		},
		lifecycle.BadUserInput: func(w *world) answer {
			return w.act("admin", "suspendRecords", ofIDs(w.customer("admin", "s"))+fmt.Sprintf(`, until: %q`, time.Unix(0, 0).UTC().Format(time.RFC3339)))
		},
		lifecycle.AuthzUnavailable: func(w *world) answer {
			w.policy.mu.Lock()
			w.policy.fails = errors.New("unreachable")
			w.policy.edits++
			w.policy.mu.Unlock()
			return w.ask("admin", `{ customers(first: 1) { totalCount } }`)
		},
		lifecycle.Internal: func(w *world) answer {
			w.exec(`ALTER TABLE contacts RENAME TO elsewhere`)
			return w.ask("admin", `{ contacts(first: 1) { totalCount } }`)
		},
	}

	var known []string
	for _, code := range lifecycle.Codes() {
		known = append(known, string(code))
		if produced[code] == nil {
			t.Errorf("nothing here produces %s", code)
		}
	}
	doc, err := parser.ParseSchema(&ast.Source{Input: graph.SDL()})
	if err != nil {
		t.Fatal(err)
	}
	var enum []string
	for _, v := range doc.Definitions.ForName("Code").EnumValues {
		enum = append(enum, v.Name)
	}
	slices.Sort(known)
	slices.Sort(enum)
	if !slices.Equal(known, enum) {
		t.Errorf("the enum is %v, the codes are %v", enum, known)
	}
	if len(produced) != len(known) {
		t.Errorf("%d codes are produced of %d", len(produced), len(known))
	}
	for code, produce := range produced {
		t.Run(string(code), func(t *testing.T) {
			each(t, func(w *world) {
				a := produce(w)
				w.Contains(a.codes(), string(code), a.raw)
				for _, seen := range a.codes() {
					w.Contains(enum, seen, a.raw)
				}
			})
		})
	}
}
