package graph_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"filippo.io/age"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// requireExport makes verbs wait for an export of customers.
func (w *world) requireExport(verbs string) {
	w.t.Helper()
	version := at(get[object](w, "admin", `{ settings { version } }`), "settings", "version")
	get[object](w, "admin", fmt.Sprintf(`mutation { requireExport(input: {version: %v, type: CUSTOMER, verbs: %s}) { settings { version exportBefore { type verbs } } } }`, version, verbs))
}

// exported exports the live records of a type, and answers the export's id.
func (w *world) exported(as, kind string) string {
	w.t.Helper()
	got := get[object](w, as, fmt.Sprintf(`mutation { createExport(input: {type: %s}) { export { id status type states format encryptTo } } }`, kind))
	w.Equal(object{"status": "PENDING", "type": kind, "states": []any{"ACTIVE"}, "format": "CSV", "encryptTo": []any{}, "id": at(got, "createExport", "export", "id")}, at(got, "createExport", "export"))
	_, err := w.exports.TakeUp(w.t.Context(), false)
	w.NoError(err)
	id, _ := at(got, "createExport", "export", "id").(string)
	return id
}

func TestAnExportIsAskedForWatchedAndFetched(t *testing.T) {
	each(t, func(w *world) {
		w.customer("manager", "one")
		id := w.exported("manager", "CUSTOMER")
		const fields = `id status rows complete manifest manifestSHA256 downloadURL expiresAt code requestedBy { email } schedule { id }`
		got := get[object](w, "manager", `query($id: ID!) { export(id: $id) { `+fields+` } }`, vars{"id": id})
		w.Equal([]any{"SUCCEEDED", 1.0, true, nil}, []any{at(got, "export", "status"), at(got, "export", "rows"), at(got, "export", "complete"), at(got, "export", "code")})
		link, _ := at(got, "export", "downloadURL").(string)
		mux, out := http.NewServeMux(), httptest.NewRecorder()
		mux.Handle("GET /exports/{id}", w.exports)
		mux.ServeHTTP(out, httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, link, nil))
		w.Equal(http.StatusOK, out.Code)
		w.Contains(out.Body.String(), `"one"`)

		// His own, or those of others by a right of its own; to the rest there is none.
		for as, n := range map[string]int{"manager": 1, "compliance": 1, "admin": 1} {
			list := get[object](w, as, `{ exports(first: 10) { totalCount nodes { id downloadURL } } exportSchedules(first: 10) { totalCount } }`)
			w.EqualValues(n, at(list, "exports", "totalCount"), as)
			w.NotEmpty(at(list, "exports", "nodes", 0, "downloadURL"))
			w.NotNil(at(get[object](w, as, `query($id: ID!) { node(id: $id) { id } }`, vars{"id": id}), "node"))
		}
		for _, as := range []string{"agent", "viewer", "purger", "nobody", "stranger"} {
			w.Nil(at(get[object](w, as, `query($id: ID!) { node(id: $id) { id } }`, vars{"id": id}), "node"), as)
		}
		w.EqualValues(0, at(get[object](w, "agent", `{ exports(first: 1) { totalCount } }`), "exports", "totalCount"))
		w.Equal("NOT_FOUND", w.ask("stranger", `mutation($id: ID!) { deleteExport(input: {id: $id}) { export { id } } }`, vars{"id": id}).code())
		events := get[object](w, "compliance", `{ auditEvents(first: 10, where: {actionHasPrefix: "EXPORT"}) { nodes { action exportManifest } } }`)
		w.Equal([]any{"EXPORT_REQUEST", "EXPORT_FINISH", "EXPORT_DOWNLOAD"}, column(at(events, "auditEvents", "nodes"), "action"))
		w.Equal(at(got, "export", "manifestSHA256"), at(events, "auditEvents", "nodes", 1, "exportManifest"))

		gone := get[object](w, "manager", `mutation($id: ID!) { deleteExport(input: {id: $id}) { export { status downloadURL } } }`, vars{"id": id})
		w.Equal(object{"status": "EXPIRED", "downloadURL": nil}, at(gone, "deleteExport", "export"))
	})
}

func TestAPurgeSaysWhichExportHasTheRecord(t *testing.T) {
	each(t, func(w *world) {
		w.requireExport("[DELETE, PURGE]")
		c := w.customer("admin", "one")
		why := get[object](w, "admin", `query($id: ID!) { whyNot(id: $id, action: DELETE) { code message } }`, vars{"id": c.String()})
		w.Equal("EXPORT_REQUIRED", at(why, "whyNot", 0, "code"))
		export := w.exported("compliance", "CUSTOMER")
		sum := at(get[object](w, "compliance", `query($id: ID!) { export(id: $id) { manifestSHA256 } }`, vars{"id": export}), "export", "manifestSHA256")
		w.deleted("admin", c)
		w.Contains(w.act("purger", "purgeRecords", ofIDs(c)).raw, "SUCCEEDED")
		events := get[object](w, "admin", `{ auditEvents(first: 10, where: {actionIn: ["DELETE", "PURGE"], outcome: SUCCEEDED}) { nodes { action exportManifest } } }`)
		w.Equal([]any{"DELETE", "PURGE"}, column(at(events, "auditEvents", "nodes"), "action"))
		w.Equal([]any{sum, sum}, column(at(events, "auditEvents", "nodes"), "exportManifest"))
		var kept string
		_, err := store.Build(w.db).Add(`SELECT export_manifest FROM tombstones`).One(w.t.Context(), w.db, &kept)
		w.NoError(err)
		w.Equal(sum, kept)
	})
}

func TestWhatIsWrongWithAnExportIsSaid(t *testing.T) {
	each(t, func(w *world) {
		key, err := age.GenerateX25519Identity()
		w.NoError(err)
		good := fmt.Sprintf(`type: MESSAGE, encryptTo: [%q], filter: {messages: {subjectContains: "x"}}, states: [ACTIVE, DELETED], format: XLSX`, key.Recipient())
		for input, code := range map[string]string{
			`type: MESSAGE, filter: {customers: {nameContains: "x"}}`: "BAD_USER_INPUT",
			`type: MESSAGE, filter: {messages: {}}`:                   "INVALID_FILTER",
			`type: MESSAGE, filter: {messages: {or: [{}]}}`:           "INVALID_FILTER",
			`type: MESSAGE, encryptTo: ["age1x"]`:                     "BAD_USER_INPUT",
		} {
			w.Equal(code, w.ask("admin", `mutation { createExport(input: {`+input+`}) { export { id } } }`).code(), input)
		}
		w.Equal("FORBIDDEN", w.ask("agent", `mutation { createExport(input: {`+good+`}) { export { id } } }`).code())
		w.Equal("BAD_USER_INPUT", w.ask("admin", `mutation($id: ID!) { cancelExport(input: {id: $id}) { export { id } } }`, vars{"id": gid.New(gid.Customer).String()}).code())
		w.Empty(w.ask("admin", `mutation { createExport(input: {`+good+`}) { export { id } } }`).Errors)

		got := get[object](w, "manager", `mutation { createExportSchedule(input: {`+good+`, every: "0 3 * * 1", keep: 4}) { schedule { id type states encryptTo every keep nextRunAt code filter requestedBy { email } } } }`)
		schedule := at(got, "createExportSchedule", "schedule")
		w.Equal([]any{"MESSAGE", "0 3 * * 1", 4.0, "2026-03-02T03:00:00Z"}, []any{at(schedule, "type"), at(schedule, "every"), at(schedule, "keep"), at(schedule, "nextRunAt")})
		w.Equal("BAD_USER_INPUT", w.ask("manager", `mutation { createExportSchedule(input: {`+good+`, every: "never", keep: 4}) { schedule { id } } }`).code())
		removed := get[object](w, "manager", `mutation($id: ID!) { removeExportSchedule(input: {id: $id}) { schedule { removedAt } } }`, vars{"id": at(schedule, "id")})
		w.NotNil(at(removed, "removeExportSchedule", "schedule", "removedAt"))
		w.EqualValues(0, at(get[object](w, "manager", `{ exportSchedules(first: 1) { totalCount } }`), "exportSchedules", "totalCount"))
	})
}
