package graph_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/graph"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/record"
)

// stayers are callers who may stay.
type stayers struct{}

func (stayers) SignIn(ctx context.Context, _ string) (context.Context, bool, error) {
	return ctx, actor.From(ctx) != nil, nil
}

func (stayers) Hold(ctx context.Context) (context.Context, func(), error) { return ctx, func() {}, nil }

func (stayers) Attend(ctx context.Context) (context.Context, func()) { return ctx, func() {} }

func (stayers) Now(held context.Context) (context.Context, error) { return held, nil }

func (stayers) Latest(held context.Context) (context.Context, error) { return held, nil }

// subscription is one that a user has, by server-sent events.
type subscription struct {
	w      *world
	events chan answer
	close  func()
}

func (w *world) subscribe(as, document string, variables ...vars) *subscription {
	w.t.Helper()
	body := map[string]any{"query": document}
	if len(variables) > 0 {
		body["variables"] = variables[0]
	}
	text, err := json.Marshal(body)
	w.NoError(err)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.handler.ServeHTTP(out, r.WithContext(actor.With(r.Context(), w.actor(as))))
	}))
	ctx, cancel := context.WithCancel(w.t.Context())
	w.t.Cleanup(func() {
		cancel()
		server.Close()
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/graphql", strings.NewReader(string(text)))
	w.NoError(err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	before := w.feed.Waiting()
	response, err := server.Client().Do(r)
	w.NoError(err)
	w.Equal(http.StatusOK, response.StatusCode)
	s := &subscription{w, make(chan answer, 1_000), cancel}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	w.True(lines.Scan(), "it begins with a comment")
	go func() {
		defer close(s.events)
		defer response.Body.Close()
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			a := answer{w: w, raw: data}
			if json.Unmarshal([]byte(data), &a) == nil {
				select {
				case s.events <- a:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	// What was committed before somebody waits is no news to him.
	w.Eventually(func() bool { return w.feed.Waiting() > before || len(s.events) > 0 }, 10*time.Second, time.Millisecond)
	return s
}

// next is the next event.
func (s *subscription) next() answer {
	s.w.t.Helper()
	select {
	case a, more := <-s.events:
		s.w.True(more, "the stream has ended")
		return a
	case <-time.After(10 * time.Second):
		s.w.FailNow("nothing came", "%s", s.w.log)
		return answer{}
	}
}

// field walks into the next event, which must not be an error.
func (s *subscription) field(name string) object {
	s.w.t.Helper()
	a := s.next()
	s.w.Empty(a.Errors, a.raw)
	var v object
	s.w.NoError(json.Unmarshal(a.Data, &v))
	of, ok := v[name].(object)
	s.w.True(ok, a.raw)
	return of
}

func (s *subscription) ends() {
	s.w.t.Helper()
	select {
	case a, more := <-s.events:
		s.w.False(more, a.raw)
	case <-time.After(10 * time.Second):
		s.w.FailNow("it does not end")
	}
}

const recordChanged = `subscription($types: [RecordType!], $ids: [ID!]) { recordChanged(types: $types, ids: $ids) {
	action recordID type from to version record { id state label } operation { verb }
} }`

func TestChangesAreToldToWhomTheyConcern(t *testing.T) {
	each(t, func(w *world) {
		mine, others := w.customer("agent", "mine"), w.customer("agent2", "others")
		types := vars{"types": []string{"CUSTOMER"}}
		admin, agent, agent2, viewer, stranger := w.subscribe("admin", recordChanged, types), w.subscribe("agent", recordChanged, types),
			w.subscribe("agent2", recordChanged, types), w.subscribe("viewer", recordChanged, types), w.subscribe("stranger", recordChanged, types)
		is := func(s *subscription, action string, id gid.ID, state any) object {
			w.t.Helper()
			e := s.field("recordChanged")
			w.Equal(action, e["action"])
			w.Equal(id.String(), e["recordID"])
			w.Equal("CUSTOMER", e["type"])
			w.Equal(state, at(e, "record", "state"), "%v", e)
			return e
		}
		// Each is told of his own, in the order in which it happens; a task is none of the types.
		w.create("agent", "Task", record.Values{"title": "t", "customerID": mine})
		w.deleted("admin", others)
		w.deleted("agent", mine)
		e := is(admin, "DELETE", others, "DELETED")
		w.Equal("ACTIVE", e["from"])
		w.Equal("DELETED", e["to"])
		w.EqualValues(2, e["version"])
		w.Equal("DELETE", at(e, "operation", "verb"))
		is(admin, "DELETE", mine, "DELETED")
		w.Nil(at(is(agent2, "DELETE", others, "DELETED"), "operation"), "which is of somebody else")
		w.NotNil(at(is(agent, "DELETE", mine, "DELETED"), "operation"))
		// A viewer sees nothing that is retired; that it has left what he sees he is told.
		is(viewer, "DELETE", mine, nil)

		get[object](w, "agent", `mutation($id: ID!) { restoreRecords(input: {select: {ids: [$id]}}) { operation { id } } }`, vars{"id": mine.String()})
		is(admin, "RESTORE", mine, "ACTIVE")
		is(agent, "RESTORE", mine, "ACTIVE")
		is(viewer, "RESTORE", mine, "ACTIVE")

		// What is purged is gone for those who saw it in the bin.
		w.deleted("agent", mine)
		for _, s := range []*subscription{admin, agent} {
			is(s, "DELETE", mine, "DELETED")
		}
		purged := w.ask("purger", `mutation($id: ID!) { purgeRecords(input: {select: {ids: [$id]}, reason: "test"}) { operation { status } } }`, vars{"id": mine.String()})
		w.Empty(purged.Errors, purged.raw)
		last := w.customer("agent", "last")
		for _, s := range []*subscription{admin, agent} {
			w.Nil(is(s, "PURGE", mine, nil)["to"])
			is(s, "CREATE", last, "ACTIVE")
		}
		is(viewer, "DELETE", mine, nil)
		is(viewer, "CREATE", last, "ACTIVE")

		// Nothing of all that was for the others.
		w.customer("stranger", "theirs")
		w.Equal("CREATE", stranger.field("recordChanged")["action"])
		w.create("agent2", "Customer", record.Values{"name": "more"})
		w.Equal("CREATE", agent2.field("recordChanged")["action"])
	})
}

func TestChangesOfSomeRecordsOnly(t *testing.T) {
	each(t, func(w *world) {
		a, b, hidden := w.customer("agent", "a"), w.customer("agent", "b"), w.customer("agent2", "hidden")
		s := w.subscribe("agent", recordChanged, vars{"ids": ids(b, hidden)})
		w.deleted("agent", a)
		w.deleted("agent2", hidden)
		w.deleted("agent", b)
		w.Equal(b.String(), s.field("recordChanged")["recordID"])

		refused := w.subscribe("agent", recordChanged, vars{"ids": []string{w.users["agent"].String()}})
		w.Equal("BAD_USER_INPUT", refused.next().code())
		refused.ends()
	})
}

// Rights are those of the time of the event, and so are masks.
func TestASubscriptionFollowsThePolicy(t *testing.T) {
	each(t, func(w *world) {
		s := w.subscribe("agent", `subscription { recordChanged { record { id ... on Customer { name } } } }`)
		c := w.customer("agent", "shown")
		w.Equal("shown", at(s.field("recordChanged"), "record", "name"))
		w.hide("agent", "Customer.name", "read", "any")
		changed := w.ask("admin", `mutation($id: ID!) { updateCustomer(input: {id: $id, version: 1, name: "withheld"}) { customer { id } } }`, vars{"id": c.String()})
		w.Empty(changed.Errors, changed.raw)
		got := s.next()
		w.NotContains(got.raw, "withheld")
		w.Contains(got.raw, c.String())
		w.Equal([]string{"recordChanged.record.name"}, got.masked())
		w.amend(casbin.Permission(w.userSubject("agent"), w.tenant.String(), "Customer", string(authz.Read), "deny", "any"))
		again := w.ask("admin", `mutation($id: ID!) { updateCustomer(input: {id: $id, version: 2, name: "more"}) { customer { id } } }`, vars{"id": c.String()})
		w.Empty(again.Errors, again.raw)
		w.create("agent", "Task", record.Values{"title": "t"})
		w.Contains(at(s.field("recordChanged"), "record", "id"), "task_", "what he may no longer read he is not told of")
	})
}

func TestProgressIsToldUntilTheEnd(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "c")
		later := get[object](w, "agent", `mutation($id: ID!, $at: Time!) { deleteRecords(input: {select: {ids: [$id]}, runAt: $at}) { operation { id status } } }`,
			vars{"id": c.String(), "at": w.db.Now().Add(time.Hour)})
		id, _ := at(later, "deleteRecords", "operation", "id").(string)
		const document = `subscription($id: ID!) { operationProgress(id: $id) { id status processed total } }`
		s := w.subscribe("agent", document, vars{"id": id})
		admin := w.subscribe("admin", document, vars{"id": id})
		for _, s := range []*subscription{s, admin} {
			w.Equal("SCHEDULED", s.field("operationProgress")["status"])
		}
		get[object](w, "agent", `mutation($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }`, vars{"id": id})
		for _, s := range []*subscription{s, admin} {
			w.Equal("CANCELLED", s.field("operationProgress")["status"])
			s.ends()
		}
		ended := w.subscribe("agent", document, vars{"id": id})
		w.Equal("CANCELLED", ended.field("operationProgress")["status"])
		ended.ends()
		for _, who := range []string{"agent2", "stranger"} {
			hidden := w.subscribe(who, document, vars{"id": id})
			w.Equal("NOT_FOUND", hidden.next().code(), who)
			hidden.ends()
		}
		wrong := w.subscribe("agent", document, vars{"id": c.String()})
		w.Equal("BAD_USER_INPUT", wrong.next().code())
	})
}

func TestNotificationsAreToldAsTheyCome(t *testing.T) {
	each(t, func(w *world) {
		c, d := w.customer("agent", "c"), w.customer("agent", "d")
		w.deleted("manager", c)
		w.told()
		s := w.subscribe("agent", `subscription { notifications { kind record { id } counts { type count } } }`)
		other := w.subscribe("agent2", `subscription { notifications { kind } }`)
		w.deleted("manager", d)
		w.told()
		n := s.field("notifications")
		w.Equal("DELETED", n["kind"])
		w.Equal(d.String(), at(n, "record", "id"))
		e := w.customer("agent2", "e")
		w.deleted("admin", e)
		w.told()
		w.Equal("DELETED", other.field("notifications")["kind"])
	})
}

// However many records change at once, they are read together.
func TestChangesAreReadTogether(t *testing.T) {
	each(t, func(w *world) {
		cost := func(n int) int {
			list := make([]gid.ID, n)
			for i := range list {
				list[i] = w.customer("agent", "c")
			}
			s := w.subscribe("agent", recordChanged)
			w.deleted("agent", list...)
			w.sql.take()
			seen := map[any]bool{}
			for range list {
				seen[s.field("recordChanged")["recordID"]] = true
			}
			w.Len(seen, n)
			cost := len(w.sql.take())
			s.close()
			w.Eventually(func() bool { return w.feed.Waiting() == 0 }, 10*time.Second, time.Millisecond)
			return cost
		}
		few, many := cost(2), cost(40)
		w.LessOrEqual(many, few+3, "%d statements for 2, %d for 40", few, many)
	})
}

// What a slow reader has not taken yet he takes by the rights that he has by then.
func TestASlowReaderIsToldByTheRightsHeHasByThen(t *testing.T) {
	each(t, func(w *world) {
		// The first is taken at once, and waits to be read; the others are looked at by then.
		s := w.subscribe("agent", `subscription { recordChanged { recordID a: record { id } b: record { ... on Customer { name } } } }`)
		big := strings.Repeat("x", 400)
		list := make([]gid.ID, 100)
		for i := range list {
			list[i] = w.customer("agent", big)
		}
		first := s.field("recordChanged")
		w.Equal(big, at(first, "b", "name"), "another alias has values, too")
		w.hide("agent", "Customer.name", "read", "any")
		w.later(2 * time.Second)
		last := s.next()
		for range list[2:] {
			last = s.next()
		}
		w.Contains(last.raw, list[len(list)-1].String())
		w.NotContains(last.raw, "xxx")
		w.Equal([]string{"recordChanged.b.name"}, last.masked())
	})
}

// A document that compares what is hidden is refused, also once it is under way.
func TestASubscriptionEndsThatComparesWhatIsHidden(t *testing.T) {
	each(t, func(w *world) {
		s := w.subscribe("agent", `subscription { recordChanged { record { ... on Customer { deals(first: 5, where: {amountGT: 1}) { nodes { id } } } } } }`)
		c := w.customer("agent", "c")
		w.NotNil(s.field("recordChanged")["record"])
		w.hide("agent", "Deal.amount", "read", "any")
		w.deleted("admin", c)
		w.Equal("FIELD_FORBIDDEN", s.next().code())
		s.ends()
	})
}

// How long nothing happened says nothing about the server.
func TestWaitingIsNotCountedAsWork(t *testing.T) {
	each(t, func(w *world) {
		told := make(chan time.Duration, 10)
		w.config.Observe = func(kind, _ string, took time.Duration) {
			if kind == "subscription" {
				told <- took
			}
		}
		var err error
		w.handler, err = graph.NewHandler(w.config)
		w.NoError(err)
		s := w.subscribe("agent", `subscription { recordChanged { recordID } }`)
		w.later(time.Hour)
		w.customer("agent", "c")
		s.field("recordChanged")
		w.Zero(<-told)
	})
}
