package graph_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// told tells what is to be told.
func (w *world) told() {
	w.t.Helper()
	_, err := w.notify.Tell(w.t.Context())
	w.NoError(err)
}

const listNotifications = `{ unreadNotifications notifications(first: 50) { totalCount nodes { id kind days count operation { verb } record { id label } counts { type count } more approval { status } about { name } rule { name } webhook { id } readAt } } }`

// notified are a user's notifications.
func (w *world) notified(as string) []any {
	w.t.Helper()
	got := get[object](w, as, listNotifications)
	list, _ := at(got, "notifications", "nodes").([]any)
	w.EqualValues(len(list), at(got, "notifications", "totalCount"))
	return list
}

func (w *world) kinds(as string) []any {
	w.t.Helper()
	return column(w.notified(as), "kind")
}

func TestOwnersAreToldOncePerOperation(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		w.message("agent", c, "m", time.Now())
		w.message("agent", c, "m2", time.Now())
		other := w.customer("manager", "other")
		w.deleted("manager", c, other)
		w.Empty(w.notified("agent"), "nobody is told before the facts are")
		w.told()
		list := w.notified("agent")
		w.Len(list, 1)
		w.Equal("DELETED", at(list[0], "kind"))
		w.Equal([]any{object{"type": "CUSTOMER", "count": 1.0}, object{"type": "MESSAGE", "count": 2.0}}, at(list[0], "counts"))
		w.Nil(at(list[0], "record"), "there are several")
		w.Nil(at(list[0], "operation"), "the operation of another is not his to read")
		w.Empty(w.notified("manager"), "who did it himself is not told")
		w.told()
		w.Len(w.notified("agent"), 1, "nobody is told twice")

		get[object](w, "manager", `mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}}) { operation { id } } }`, vars{"id": c.String()})
		w.told()
		w.Equal([]any{"RESTORED", "DELETED"}, w.kinds("agent"), "newest first")

		w.deleted("agent", c)
		w.told()
		w.Len(w.notified("agent"), 2)
		w.EqualValues(2, at(get[object](w, "agent", listNotifications), "unreadNotifications"))
		first := at(w.notified("agent")[0], "id")
		got := get[object](w, "agent", `mutation($id: ID!) { markNotificationsRead(ids: [$id]) { marked unread } }`, vars{"id": first})
		w.Equal(object{"marked": 1.0, "unread": 1.0}, at(got, "markNotificationsRead"))
		got = get[object](w, "manager", `mutation($id: ID!) { markNotificationsRead(ids: [$id]) { marked } }`, vars{"id": at(w.notified("agent")[1], "id")})
		w.EqualValues(0, at(got, "markNotificationsRead", "marked"), "those of others are not his")
		w.Len(at(get[object](w, "agent", `{ notifications(first: 5, unread: true) { nodes { id } } }`), "notifications", "nodes"), 1)
		w.Len(at(get[object](w, "agent", `{ notifications(first: 5, kinds: [DELETED]) { nodes { id } } }`), "notifications", "nodes"), 1)
		w.EqualValues(1, at(get[object](w, "agent", `mutation { markNotificationsRead { marked } }`), "markNotificationsRead", "marked"))
		w.Nil(at(get[object](w, "manager", `query($id: ID!) { node(id: $id) { id } }`, vars{"id": first}), "node"))
		w.NotNil(at(get[object](w, "agent", `query($id: ID!) { node(id: $id) { id } }`, vars{"id": first}), "node"))
	})
}

func TestNobodyIsToldOfWhatHeMayNotRead(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("admin", "Customer", record.Values{"name": "c", "ownerID": w.users["viewer"], "teamID": w.support})
		w.Equal("NOT_FOUND", w.ask("manager", `mutation($id: ID!) { followRecord(id: $id) { record { id } } }`, vars{"id": c.String()}).code())
		w.deleted("admin", c)
		w.told()
		w.Empty(w.notified("viewer"), "a viewer does not read what was retired, though he owned it")
		get[object](w, "admin", `mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}}) { operation { id } } }`, vars{"id": c.String()})
		w.told()
		w.Equal([]any{"RESTORED", "DELETED"}, w.kinds("viewer"), "it is live again, and what happened to it is his to know")
		id := at(w.notified("viewer")[0], "id")
		w.exec(`UPDATE customers SET owner_id = ? WHERE id = ?`, w.users["admin"], c)
		w.Empty(w.notified("viewer"), "what he may read no more he is told of no more")
		w.Nil(at(get[object](w, "viewer", `query($id: ID!) { node(id: $id) { id } }`, vars{"id": id}), "node"))
		w.EqualValues(0, at(get[object](w, "viewer", listNotifications), "unreadNotifications"))
	})
}

func TestHoldsAreToldToWhoMayKnowOfThem(t *testing.T) {
	each(t, func(w *world) {
		mine := w.create("admin", "Customer", record.Values{"name": "mine", "ownerID": w.users["admin"], "teamID": w.sales})
		his := w.create("admin", "Customer", record.Values{"name": "his", "ownerID": w.users["agent"], "teamID": w.sales})
		get[object](w, "compliance", `mutation($ids: [ID!]) { placeHold(input: {name: "h", reason: "r", records: $ids}) { hold { id } } }`, vars{"ids": ids(mine, his)})
		w.told()
		w.Equal([]any{"HOLD_PLACED"}, w.kinds("admin"))
		w.Equal(mine.String(), at(w.notified("admin")[0], "record", "id"))
		w.Empty(w.notified("agent"), "an agent does not know of holds")
		w.EqualValues(0, at(get[object](w, "agent", listNotifications), "unreadNotifications"))

		// A hold by filter names no record.
		get[object](w, "admin", `mutation($members: [ID!]!) { createDepartment(input: {name: "Legal", address: "legal@example.com", kinds: [HOLD_PLACED], members: $members}) { department { id } } }`,
			vars{"members": ids(w.users["agent"], w.users["admin"])})
		get[object](w, "compliance", `mutation { placeHold(input: {name: "wide", reason: "r", filter: {customers: {name: "his"}}}) { hold { id } } }`)
		w.told()
		w.Empty(w.notified("agent"), "a member of a department does not either")
		w.EqualValues(0, at(get[object](w, "agent", listNotifications), "unreadNotifications"))
		w.Equal([]any{"HOLD_PLACED", "HOLD_PLACED"}, w.kinds("admin"))
	})
}

func TestFollowersAndDepartmentsAreTold(t *testing.T) {
	each(t, func(w *world) {
		c, note := w.customer("agent", "c"), w.create("agent", "Note", record.Values{"body": "n", "happenedAt": time.Now()})
		follow := `mutation($id: ID!) { followRecord(id: $id) { record { id } } }`
		for range 2 {
			w.Equal(c.String(), at(get[object](w, "admin", follow, vars{"id": c.String()}), "followRecord", "record", "id"))
		}
		w.Equal([]any{c.String()}, column(at(get[object](w, "admin", `{ followedRecords(first: 5) { nodes { id } } }`), "followedRecords", "nodes"), "id"))
		create := `mutation($members: [ID!]!) { createDepartment(input: {name: "Service", address: "service@example.com", kinds: [DELETED, PURGED, ARCHIVED], types: [NOTE], members: $members}) { department { id version name kinds types members { name } webhook { id } } } }`
		w.Equal("FORBIDDEN", w.ask("manager", create, vars{"members": ids(w.users["purger"])}).code())
		w.Equal("BAD_USER_INPUT", w.ask("admin", create, vars{"members": ids(w.users["stranger"])}).code())
		got := get[object](w, "admin", create, vars{"members": ids(w.users["purger"])})
		w.Equal([]any{object{"name": "purger"}}, at(got, "createDepartment", "department", "members"))
		department := at(got, "createDepartment", "department", "id")
		w.deleted("manager", c, note)
		w.told()
		w.Equal([]any{object{"type": "CUSTOMER", "count": 1.0}}, at(w.notified("admin")[0], "counts"))
		w.Equal(c.String(), at(w.notified("admin")[0], "record", "id"))
		w.Equal("c", at(w.notified("admin")[0], "record", "label"))
		w.Equal([]any{object{"type": "NOTE", "count": 1.0}}, at(w.notified("purger")[0], "counts"))

		get[object](w, "admin", `mutation($id: ID!) { unfollowRecord(id: $id) { record { id } } }`, vars{"id": c.String()})
		w.Empty(at(get[object](w, "admin", `{ followedRecords(first: 5) { nodes { id } } }`), "followedRecords", "nodes"))
		got = get[object](w, "admin", `mutation($id: ID!, $members: [ID!]!) { updateDepartment(input: {id: $id, version: 1, name: "Support", members: $members}) { department { name version members { name } } } }`, vars{"id": department, "members": ids(w.users["compliance"])})
		w.Equal(object{"name": "Support", "version": 2.0, "members": []any{object{"name": "compliance"}}}, at(got, "updateDepartment", "department"))
		w.Equal("CONFLICT", w.ask("admin", `mutation($id: ID!) { removeDepartment(input: {id: $id, version: 1}) { department { id } } }`, vars{"id": department}).code())
		get[object](w, "admin", `mutation($id: ID!) { removeDepartment(input: {id: $id, version: 2}) { department { id } } }`, vars{"id": department})
		w.Empty(at(get[object](w, "admin", `{ departments(first: 5) { nodes { id } } }`), "departments", "nodes"))

		w.exec(`UPDATE tenants SET brake_percent = NULL WHERE id = ?`, w.tenant)
		get[object](w, "purger", `mutation($id: ID!) { purgeRecords(input: {select: {ids: [$id]}}) { operation { status } } }`, vars{"id": c.String()})
		w.told()
		w.Empty(w.notified("admin"), "notifications follow the record: purge removes them")
		left := 0
		_, err := store.Build(w.db).Add(`SELECT count(*) FROM notification_records WHERE record_id = ?`, c).One(w.t.Context(), w.db, &left)
		w.NoError(err)
		w.Zero(left)
	})
}

func TestApprovalsAreToldToWhoDecidesAndWhoAsked(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("admin", "Customer", record.Values{"name": "c", "ownerID": w.users["manager"], "teamID": w.sales})
		w.create("admin", "Deal", record.Values{"name": "d", "customerID": c, "ownerID": w.users["manager"], "teamID": w.sales})
		get[object](w, "admin", `mutation { setApprovalRule(input: {name: "all", subject: DELETE, role: "manager"}) { rules { name } } }`)
		got := get[object](w, "admin", `mutation($id: ID!) { deleteRecords(input: {select: {ids: [$id]}, cascade: true}) { operation { id status } } }`, vars{"id": c.String()})
		w.Equal("PENDING_APPROVAL", at(got, "deleteRecords", "operation", "status"))
		w.told()
		w.Equal([]any{"APPROVAL_ASKED"}, w.kinds("manager"))
		w.Equal("PENDING", at(w.notified("manager")[0], "approval", "status"))
		w.Empty(w.notified("admin"))
		w.Empty(w.notified("agent"))
		get[object](w, "manager", `mutation($id: ID!) { rejectOperation(input: {id: $id}) { operation { status } } }`, vars{"id": at(got, "deleteRecords", "operation", "id")})
		w.told()
		w.Equal([]any{"APPROVAL_DECIDED"}, w.kinds("admin"))
		w.Equal("REJECTED", at(w.notified("admin")[0], "approval", "status"))
	})
}

func TestDigestsTellOfWhatWillBePurgedOnceAStage(t *testing.T) {
	each(t, func(w *world) {
		c := w.create("admin", "Customer", record.Values{"name": "c", "ownerID": w.users["agent"], "teamID": w.sales})
		held := w.create("admin", "Customer", record.Values{"name": "held", "ownerID": w.users["agent"], "teamID": w.sales})
		w.deleted("admin", c, held)
		get[object](w, "compliance", `mutation($ids: [ID!]) { placeHold(input: {name: "h", reason: "r", records: $ids}) { hold { id } } }`, vars{"ids": ids(held)})
		sweep := func() {
			w.t.Helper()
			_, _, err := w.notify.Sweep(w.t.Context())
			w.NoError(err)
			w.told()
		}
		for range 30 { // each day, twice
			sweep()
			sweep()
			w.later(24 * time.Hour)
		}
		list := w.notified("agent")
		w.Equal([]any{"WILL_BE_PURGED", "WILL_BE_PURGED", "DELETED"}, column(list, "kind"))
		w.Equal([]any{1.0, 7.0, nil}, column(list, "days"))
		for _, digest := range list[:2] {
			w.Equal([]any{object{"type": "CUSTOMER", "count": 2.0}}, at(digest, "counts"), "by the clock alone, as if nothing were held")
		}
		w.later(91 * 24 * time.Hour)
		sweep()
		w.Empty(w.notified("agent"), "after 90 days they go")
	})
}

// receiver is another application.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	status int
	on     func() // before an event is answered
	got    []*http.Request
	bodies []object
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		text, err := io.ReadAll(q.Body)
		var body object
		if err != nil || json.Unmarshal(text, &body) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.got, r.bodies = append(r.got, q), append(r.bodies, body)
		if r.on != nil {
			r.on()
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, len(r.got))
	for i, q := range r.got {
		out[i] = q.Header.Get("Webhook-Id")
	}
	return out
}

func (w *world) newWebhook(r *receiver, more string) (id string) {
	w.t.Helper()
	got := get[object](w, "admin", `mutation($url: String!) { createWebhook(input: {url: $url `+more+`}) { secret webhook { id version enabled } } }`, vars{"url": r.URL})
	w.Regexp(`^whsec_`, at(got, "createWebhook", "secret"))
	id, _ = at(got, "createWebhook", "webhook", "id").(string)
	return id
}

func (w *world) delivered() int {
	w.t.Helper()
	w.told()
	n, err := w.notify.Deliver(w.t.Context())
	w.NoError(err)
	return n
}

const listDeliveries = `{ webhookDeliveries(last: 50) { nodes { id eventType status attempts statusCode failure nextAt } } }`

func TestWebhooksAreToldOnceAndNothingPersonal(t *testing.T) {
	each(t, func(w *world) {
		r := newReceiver(t)
		w.newWebhook(r, `, kinds: [DELETED], types: [CUSTOMER, NOTE]`)
		c := w.customer("agent", "Very Personal")
		w.message("agent", c, "Very Personal", time.Now())
		operation := w.deleted("manager", c)
		w.Equal(1, w.delivered())
		w.Zero(w.delivered())
		body := r.bodies[0]
		w.Equal("record.deleted", body["type"])
		w.Equal(operation, at(body, "data", "operation"))
		w.Equal(object{"CUSTOMER": 1.0}, at(body, "data", "counts"))
		w.Equal([]any{object{"id": c.String(), "type": "CUSTOMER", "state": "DELETED", "version": 2.0}}, at(body, "data", "records"))
		text, err := json.Marshal(body)
		w.NoError(err)
		w.NotContains(string(text), "Personal")
		w.NotContains(string(text), "test", "the reason is not sent")
		nodes := at(get[object](w, "admin", listDeliveries), "webhookDeliveries", "nodes")
		w.Equal([]any{"DELIVERED"}, column(nodes, "status"))
		w.Equal([]string{at(nodes, 0, "id").(string)}, r.ids())
		w.deleted("manager", w.message("agent", gid.Nil, "no type of its", time.Now()))
		w.Zero(w.delivered(), "no record of its types")
	})
}

func TestDeliveriesAreTriedAgainUnderOneID(t *testing.T) {
	each(t, func(w *world) {
		r := newReceiver(t)
		attempted := map[string]int{}
		w.notify.Attempted = func(result string) { attempted[result]++ }
		hook := w.newWebhook(r, `, kinds: [DELETED]`)
		r.answers(http.StatusInternalServerError)
		w.deleted("manager", w.customer("agent", "c"))
		w.Equal(1, w.delivered())
		w.Zero(w.delivered(), "not before its time")
		for _, wait := range []time.Duration{7 * time.Second, 7 * time.Minute} {
			w.later(wait)
			w.Equal(1, w.delivered())
		}
		nodes := at(get[object](w, "admin", listDeliveries), "webhookDeliveries", "nodes")
		w.Equal(object{"id": r.ids()[0], "eventType": "record.deleted", "status": "PENDING", "attempts": 3.0, "statusCode": 500.0, "failure": "STATUS", "nextAt": at(nodes, 0, "nextAt")}, at(nodes, 0))
		w.NotNil(at(get[object](w, "admin", `query($id: ID!) { webhook(id: $id) { failingSince } }`, vars{"id": hook}), "webhook", "failingSince"))
		for range 7 {
			w.later(30 * time.Hour)
			w.delivered()
		}
		w.Equal(len(r.ids()), attempted["failed"]+attempted["dead"], "each attempt is counted: %v", attempted)
		nodes = at(get[object](w, "admin", listDeliveries), "webhookDeliveries", "nodes")
		w.NotEqual("PENDING", at(nodes, 0, "status"), "it is given up")
		w.Equal(false, at(get[object](w, "admin", `query($id: ID!) { webhook(id: $id) { enabled } }`, vars{"id": hook}), "webhook", "enabled"), "what fails for five days is disabled")
		w.told()
		w.Equal([]any{"WEBHOOK_DISABLED"}, w.kinds("admin"), "and who created it is told")
		w.Equal(hook, at(w.notified("admin")[0], "webhook", "id"))

		r.answers(http.StatusOK)
		version := at(get[object](w, "admin", `query($id: ID!) { webhook(id: $id) { version } }`, vars{"id": hook}), "webhook", "version")
		get[object](w, "admin", `mutation($id: ID!, $v: Int!) { updateWebhook(input: {id: $id, version: $v, enabled: true}) { webhook { enabled } } }`, vars{"id": hook, "v": version})
		w.EqualValues(1, at(get[object](w, "admin", `mutation($id: ID!) { replayDeliveries(input: {webhook: $id}) { replayed } }`, vars{"id": hook}), "replayDeliveries", "replayed"))
		w.Equal(1, w.delivered())
		for _, id := range r.ids() {
			w.Equal(r.ids()[0], id, "one id, however often it is sent")
		}
		w.EqualValues(0, at(get[object](w, "admin", `mutation($id: ID!) { replayDeliveries(input: {webhook: $id}) { replayed } }`, vars{"id": hook}), "replayDeliveries", "replayed"), "it was taken")
		w.EqualValues(1, at(get[object](w, "admin", `mutation($id: ID!) { replayDeliveries(input: {ids: [$id]}) { replayed } }`, vars{"id": r.ids()[0]}), "replayDeliveries", "replayed"))
	})
}

func TestAWebhookOfWhichTheSecretCannotBeReadHoldsUpNoOther(t *testing.T) {
	each(t, func(w *world) {
		r := newReceiver(t)
		broken := w.newWebhook(r, `, kinds: [DELETED]`)
		w.exec(`UPDATE webhooks SET secret = ? WHERE tenant_id = ?`, []byte("of another key"), w.tenant)
		w.newWebhook(r, `, kinds: [DELETED]`)
		w.deleted("manager", w.customer("agent", "c"))
		w.Equal(1, w.delivered())
		w.Contains(w.log.String(), "secret of a webhook cannot be read")
		nodes, _ := at(get[object](w, "admin", `{ webhookDeliveries(first: 5) { nodes { status attempts webhook { id } } } }`), "webhookDeliveries", "nodes").([]any)
		w.Len(nodes, 2)
		for _, n := range nodes {
			if at(n, "webhook", "id") == broken {
				w.Equal([]any{"PENDING", 0.0}, []any{at(n, "status"), at(n, "attempts")}, "it waits, and loses no attempt")
			} else {
				w.Equal("DELIVERED", at(n, "status"))
			}
		}
	})
}

func TestAnAttemptThatEndsLateSettlesNoReplay(t *testing.T) {
	each(t, func(w *world) {
		first := newReceiver(t)
		hook := w.newWebhook(first, `, kinds: [DELETED]`)
		w.deleted("manager", w.customer("agent", "c"))
		w.told()
		second := newReceiver(t)
		replayed := false
		first.on = func() { // while it is being sent somebody disables the webhook, gives it another address, and replays
			change := func(version int, set string) {
				get[object](w, "admin", `mutation($id: ID!, $v: Int!, $url: String) { updateWebhook(input: {id: $id, version: $v, `+set+`}) { webhook { version } } }`, vars{"id": hook, "v": version, "url": second.URL})
			}
			if !replayed {
				replayed = true
				change(1, `enabled: false, url: $url`)
				change(2, `enabled: true, url: $url`)
				get[object](w, "admin", `mutation($id: ID!) { replayDeliveries(input: {webhook: $id}) { replayed } }`, vars{"id": hook})
				// Another process takes it, and is killed.
				w.exec(`UPDATE webhook_deliveries SET attempts = attempts + 1, next_at = ?`, w.db.Now().Add(time.Minute))
			}
		}
		w.Equal(1, w.delivered())
		w.Empty(second.ids())
		w.later(2 * time.Minute)
		w.Equal(1, w.delivered())
		w.Len(first.ids(), 1)
		w.Equal(first.ids(), second.ids(), "the other address has it, too")
	})
}

func TestAWebhookThatIsGoneIsDisabledAndSecretsOverlap(t *testing.T) {
	each(t, func(w *world) {
		r := newReceiver(t)
		hook := w.newWebhook(r, `, kinds: [DELETED]`)
		test := `mutation($id: ID!) { testWebhook(id: $id) { delivery { status eventType } } }`
		w.Equal(object{"status": "PENDING", "eventType": "webhook.test"}, at(get[object](w, "admin", test, vars{"id": hook}), "testWebhook", "delivery"))
		w.Equal(1, w.delivered())
		w.Regexp(`^v1,\S+$`, r.got[0].Header.Get("Webhook-Signature"))
		got := get[object](w, "admin", `mutation($id: ID!) { rotateWebhookSecret(input: {id: $id, version: 1}) { secret webhook { version previousSecretUntil } } }`, vars{"id": hook})
		w.EqualValues(2, at(got, "rotateWebhookSecret", "webhook", "version"))
		get[object](w, "admin", test, vars{"id": hook})
		w.Equal(1, w.delivered())
		w.Regexp(`^v1,\S+ v1,\S+$`, r.got[1].Header.Get("Webhook-Signature"), "for a day signed with both")
		w.later(25 * time.Hour)
		get[object](w, "admin", test, vars{"id": hook})
		w.Equal(1, w.delivered())
		w.Regexp(`^v1,\S+$`, r.got[2].Header.Get("Webhook-Signature"))
		r.answers(http.StatusGone)
		get[object](w, "admin", test, vars{"id": hook})
		w.Equal(1, w.delivered())
		w.Equal(false, at(get[object](w, "admin", `query($id: ID!) { webhook(id: $id) { enabled } }`, vars{"id": hook}), "webhook", "enabled"))
		w.Equal("DEAD", at(get[object](w, "admin", listDeliveries), "webhookDeliveries", "nodes", 3, "status"))
		w.Equal("BAD_USER_INPUT", w.ask("admin", test, vars{"id": hook}).code())
		removed := get[object](w, "admin", `mutation($id: ID!) { removeWebhook(input: {id: $id, version: 3}) { webhook { removedAt } } }`, vars{"id": hook})
		w.NotNil(at(removed, "removeWebhook", "webhook", "removedAt"))
		w.Empty(at(get[object](w, "admin", `{ webhooks(first: 5) { nodes { id } } }`), "webhooks", "nodes"))
	})
}

func TestWebhooksAreForThoseWhoMayChangeThem(t *testing.T) {
	each(t, func(w *world) {
		r := newReceiver(t)
		hook := w.newWebhook(r, `, kinds: [DELETED]`)
		for _, as := range []string{"manager", "agent", "compliance", "viewer", "nobody"} {
			w.Equal("FORBIDDEN", w.ask(as, `{ webhooks(first: 5) { nodes { id } } }`).code(), as)
			w.Equal("FORBIDDEN", w.ask(as, `{ alertRules(first: 5) { nodes { id } } }`).code(), as)
			w.Nil(at(get[object](w, as, `query($id: ID!) { node(id: $id) { id } }`, vars{"id": hook}), "node"), as)
		}
		w.Empty(at(get[object](w, "stranger", `{ webhooks(first: 5) { nodes { id } } }`), "webhooks", "nodes"))
		w.Equal("NOT_FOUND", w.ask("stranger", `mutation($id: ID!) { testWebhook(id: $id) { delivery { id } } }`, vars{"id": hook}).code())
		w.Equal("BAD_USER_INPUT", w.ask("admin", `mutation { createWebhook(input: {url: "https://u:p@example.com/", kinds: [DELETED]}) { secret } }`).code())
		w.Equal("BAD_USER_INPUT", w.ask("admin", `mutation { createWebhook(input: {url: "https://example.com/", kinds: []}) { secret } }`).code())
	})
}

func TestAlertsAreRaisedOnceForAnActorAndATime(t *testing.T) {
	each(t, func(w *world) {
		r := newReceiver(t)
		w.newWebhook(r, `, kinds: [ALERT]`)
		get[object](w, "admin", `mutation { createAlertRule(input: {name: "many", kind: DELETIONS_PER_ACTOR, count: 3, minutes: 10, roles: ["compliance"]}) { rule { id verbs departments { id } roles weekdays } } }`)
		w.Equal("BAD_USER_INPUT", w.ask("admin", `mutation { createAlertRule(input: {name: "x", kind: DENIALS}) { rule { id } } }`).code(), "it tells nobody")
		w.Equal("BAD_USER_INPUT", w.ask("admin", `mutation { createAlertRule(input: {name: "x", kind: DENIALS, zone: "Mars/Base", roles: ["admin"]}) { rule { id } } }`).code())
		for range 2 {
			w.deleted("agent", w.customer("agent", "c"))
			w.told()
		}
		w.Empty(w.notified("compliance"))
		w.deleted("agent", w.customer("agent", "c"))
		w.told()
		w.deleted("agent", w.customer("agent", "c"), w.customer("agent", "c"))
		w.told()
		list := w.notified("compliance")
		w.Len(list, 1)
		w.Equal([]any{"ALERT", 3.0, "agent"}, []any{at(list[0], "kind"), at(list[0], "count"), at(list[0], "about", "name")})
		w.Nil(at(list[0], "rule"), "rules are for who may change them")
		w.Equal(1, w.delivered())
		w.Equal("alert.raised", r.bodies[0]["type"])
		w.EqualValues(1, at(get[object](w, "compliance", `{ auditEvents(first: 5, where: {action: "ALERT"}) { totalCount } }`), "auditEvents", "totalCount"))
		w.later(11 * time.Minute)
		w.deleted("agent", w.customer("agent", "c"), w.customer("agent", "c"), w.customer("agent", "c"))
		w.told()
		w.Len(w.notified("compliance"), 2, "and again when that time is over")

		get[object](w, "admin", `mutation { a: createAlertRule(input: {name: "denied", kind: DENIALS, count: 2, roles: ["purger"]}) { rule { id } } b: createAlertRule(input: {name: "late", kind: OUT_OF_HOURS, verbs: [ARCHIVE], fromHour: 0, toHour: 1, roles: ["manager"]}) { rule { verbs } } }`)
		for range 2 {
			w.Equal("FORBIDDEN", w.ask("agent", `{ webhooks(first: 5) { nodes { id } } }`).code())
		}
		get[object](w, "agent", `mutation($id: ID!) { archiveRecords(input: {select: {ids: [$id]}}) { operation { status } } }`, vars{"id": w.customer("agent", "c").String()})
		w.told()
		var denied []any
		for _, n := range w.notified("purger") {
			denied = append(denied, at(n, "about", "name"))
		}
		w.ElementsMatch([]any{"agent", "admin"}, denied, "who was refused twice within an hour, each by an alert of his own")
		w.Contains(w.kinds("manager"), "ALERT")
		rules := at(get[object](w, "admin", `{ alertRules(first: 5) { nodes { id name version } } }`), "alertRules", "nodes")
		w.Len(rules, 3)
		get[object](w, "admin", `mutation($id: ID!) { updateAlertRule(input: {id: $id, version: 1, count: 5, enabled: false}) { rule { count enabled } } removeAlertRule(input: {id: $id, version: 2}) { rule { removedAt } } }`, vars{"id": at(rules, 0, "id")})
		w.Len(at(get[object](w, "admin", `{ alertRules(first: 5) { nodes { id } } }`), "alertRules", "nodes"), 2)
	})
}
