package record_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/auditevent"
	"github.com/lethe-crm/lethe/ent/operationitem"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/store/storetest"
	"github.com/lethe-crm/lethe/internal/visible"
)

// The properties run for a while rather than for a number of cases: LETHE_LONG
// says how long each does on each database.
var long = func() time.Duration {
	d, err := time.ParseDuration(os.Getenv("LETHE_LONG"))
	if err != nil {
		return 3 * time.Second
	}
	return d
}()

func TestMain(m *testing.M) {
	flag.Parse()
	// rapid is given its seed here, so that it is known whether or not a case
	// fails, and more cases than there is time for.
	for name, value := range map[string]string{
		"rapid.seed": strconv.FormatUint(rand.Uint64(), 10), "rapid.checks": strconv.Itoa(1_000 + int(50*long.Seconds())),
	} {
		given := false
		flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
		if !given {
			_ = flag.Set(name, value)
		}
	}
	storetest.Main(m)
}

// property runs cases on both databases until the time is up. A case answers
// how many steps it had.
func property(t *testing.T, run func(p *play) int) {
	t.Helper()
	each(t, func(w *world) {
		foreign := w.create("stranger", "Customer", record.Values{"name": "elsewhere"}).RecordID()
		start, cases, steps, broken := time.Now(), 0, 0, false
		met := map[string]int{}
		rapid.Check(w.t, func(t *rapid.T) {
			if !broken && time.Since(start) > long {
				return
			}
			ended := false
			defer func() { broken = broken || !ended }() // what fails is shrunk however long that takes
			p := newPlay(w, t, foreign)
			p.met = met
			defer p.close()
			steps += run(p)
			cases++
			ended = true
		})
		w.t.Logf("%d cases of %d steps in all, %v, -rapid.seed=%s; met %v", cases, steps, time.Since(start).Round(time.Millisecond), flag.Lookup("rapid.seed").Value, met)
	})
}

// play is one case: a tenant with actors of its own, records, and the model
// that says what they should be like.
type play struct {
	*world
	*rapid.T
	ctx     context.Context // sees all of the tenant
	m       *model
	ops     map[gid.ID]*ran
	order   []gid.ID       // of operations
	foreign gid.ID         // a record of another tenant
	met     map[string]int // how often each verdict was met
	last    *row           // picked last
	steady  bool           // no suspension runs out
}

func newPlay(w *world, t *rapid.T, foreign gid.ID) *play {
	own := *w
	own.tenant, own.sales, own.support, own.users = gid.New(gid.Tenant), gid.New(gid.Team), gid.New(gid.Team), map[string]gid.ID{}
	p := &play{world: &own, T: t, foreign: foreign, ops: map[gid.ID]*ran{}, m: &model{people: people{}, row: map[gid.ID]*row{}}}
	p.ctx = visible.With(w.t.Context(), visible.Tenant(own.tenant))
	rules := casbin.DefaultRules(own.tenant.String())
	var users, teams [][]any
	for _, who := range actors[1:] {
		grant, team := who, own.sales
		if who == "agent2" {
			grant, team = "agent", own.support
		}
		id := gid.New(gid.User)
		own.users[who], p.m.people[who] = id, person{id, team}
		users = append(users, []any{id, own.tenant, who, who, who, true, w.db.Now()})
		teams = append(teams, []any{id, team})
		rules = append(rules, casbin.Grant(casbin.UserSubject(id.String()), casbin.RoleSubject(grant), own.tenant.String()))
	}
	require.NoError(t, w.db.InTx(w.t.Context(), func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(
			tx.Insert(ctx, "tenants", []string{"id", "name", "bin_days", "created_at"}, [][]any{{own.tenant, own.tenant.String(), 30, w.db.Now()}}),
			tx.Insert(ctx, "teams", []string{"id", "tenant_id", "name"}, [][]any{{own.sales, own.tenant, "Sales"}, {own.support, own.tenant, "Support"}}),
			tx.Insert(ctx, "users", []string{"id", "tenant_id", "email", "email_key", "name", "active", "created_at"}, users),
			tx.Insert(ctx, "user_teams", []string{"user_id", "team_id"}, teams),
		)
	}))
	w.policy.mu.Lock()
	defer w.policy.mu.Unlock()
	w.policy.rules[own.tenant.String()] = rules
	return p
}

func (p *play) close() {
	p.policy.mu.Lock()
	defer p.policy.mu.Unlock()
	delete(p.policy.rules, p.tenant.String())
}

// actors are all who act; the system is no user.
var actors = []string{"system", "viewer", "agent", "agent2", "manager", "compliance", "purger", "admin"}

func oneOf[T any](p *play, label string, of ...T) T { return rapid.SampledFrom(of).Draw(p.T, label) }

// one in n.
func (p *play) chance(n int, label string) bool { return rapid.IntRange(1, n).Draw(p.T, label) == n }

// uniques and weaks are the fields of each type that the model knows, with the
// values and the targets they may have.
var (
	uniques = map[string]map[string][]string{
		"Customer": {"email": {"a@x.example", "A@X.example", "b@x.example"}, "domain": {"x.example", "y.example"}},
		"Contact":  {"email": {"p@x.example", "P@x.example"}},
		"Call":     {"externalID": {"1", "2"}},
		"Message":  {"messageID": {"m1@x", "m2@x"}},
	}
	weaks = map[string]map[string]string{
		"Deal": {"primaryContactID": "Contact"}, "Message": {"contactID": "Contact", "dealID": "Deal", "inReplyToID": "Message"},
		"Call": {"contactID": "Contact", "dealID": "Deal", "taskID": "Task"}, "Task": {"dealID": "Deal"}, "Note": {"contactID": "Contact", "dealID": "Deal"},
	}
	needed = map[string]string{
		"Customer": "name", "Contact": "name", "Deal": "name", "Message": "sentAt", "Call": "startedAt", "Task": "title", "Note": "body happenedAt", "Attachment": "filename",
	}
)

// column is that of a field.
func column(typ, field string) string {
	for _, f := range ent.RecordTypeNamed(typ).Fields {
		if f.GraphQL == field {
			return f.Name
		}
	}
	panic("there is no " + typ + "." + field)
}

// ofType are the records of some types, purged ones too.
func (p *play) ofType(types ...string) []*row {
	var out []*row
	for _, r := range p.m.all {
		if slices.Contains(types, r.typ) {
			out = append(out, r)
		}
	}
	return out
}

// create makes a record of a type below an owner, which may be nil, and expects
// what the document says of it.
func (p *play) create(who, typ string, owner *row, values record.Values, by *person) {
	r := &row{typ: typ, weak: map[string]gid.ID{}, unique: map[string]string{}, version: 1, by: p.m.people[who]}
	r.state, r.class = lifecycle.Active, classes[typ]
	if owner != nil {
		r.owner = owner.id
		values[strings.ToLower(owner.typ)+"ID"] = owner.id
		if r.class == lifecycle.Owned {
			r.by = owner.by
		}
	}
	if by != nil {
		r.by, values["ownerID"], values["teamID"] = *by, by.user, by.team
	}
	for _, field := range slices.Sorted(maps.Keys(weaks[typ])) {
		if to := p.ofType(weaks[typ][field]); len(to) > 0 && p.chance(4, field) {
			if t := oneOf(p, field, to...); p.m.sees(who, t) {
				r.weak[field], values[field] = t.id, t.id
			}
		}
	}
	for _, field := range slices.Sorted(maps.Keys(uniques[typ])) {
		if p.chance(2, "has "+field) {
			r.unique[field] = oneOf(p, field, uniques[typ][field]...)
			values[field] = r.unique[field]
		}
	}
	for field := range strings.FieldsSeq(needed[typ]) {
		values[field] = "some text"
		if strings.HasSuffix(field, "At") {
			values[field] = time.Date(2026, 1, rapid.IntRange(1, 20).Draw(p.T, field), 0, 0, 0, 0, time.UTC)
		}
	}
	want := lifecycle.Code("")
	switch {
	case owner != nil && !p.m.sees(who, owner), owner == nil && (typ == "Contact" || typ == "Attachment"):
		want = lifecycle.BadUserInput
	case owner != nil && !owner.live():
		want = lifecycle.ParentRetired
	case !p.m.may(who, "create", r.by):
		want = lifecycle.Forbidden
	case !r.claim(p.taken(), r.owner, nil):
		want = lifecycle.UniqueConflict
	}
	p.Logf("%s creates a %s: %v", who, typ, values)
	got, err := p.svc.Create(p.as(who), typ, values)
	require.Equal(p.T, want, code(err), "creating: %v", err)
	if err == nil {
		r.id = got.RecordID()
		p.m.all, p.m.row[r.id] = append(p.m.all, r), r
	}
}

// taken are the values of live records.
func (p *play) taken() map[string]*row {
	taken := map[string]*row{}
	for _, r := range p.m.all {
		if r.live() {
			r.claim(taken, r.owner, nil)
		}
	}
	return taken
}

// grow draws a record and who makes it.
func (p *play) grow(who string) {
	types := []string{"Customer", "Contact", "Deal", "Message", "Message", "Call", "Task", "Note", "Attachment", "Attachment", "Attachment"}
	if len(p.ofType("Customer")) == 0 {
		types = types[:1]
	}
	typ := oneOf(p, "type", types...)
	var owner *row
	needs := typ == "Contact" || typ == "Attachment"
	if above := p.ofType(owners[typ]...); len(above) > 0 && (needs || !p.chance(8, "no owner")) {
		owner = oneOf(p, "owner", above...)
	}
	var by *person
	if who == "admin" && !p.chance(3, "inherits") {
		by = &person{p.users[oneOf(p, "user", actors[1:]...)], oneOf(p, "team", p.sales, p.support)}
	}
	p.create(who, typ, owner, record.Values{}, by)
}

// edit changes a value or the owner of a record.
func (p *play) edit(who string) {
	r := oneOf(p, "record", p.m.all...)
	values, owner, unique := record.Values{}, r.owner, map[string]string{}
	if fields := slices.Sorted(maps.Keys(uniques[r.typ])); len(fields) > 0 && !p.chance(3, "no value") {
		field := oneOf(p, "field", fields...)
		unique[field] = oneOf(p, field, append(uniques[r.typ][field], "")...)
		values[field] = unique[field]
	}
	if above := p.ofType("Customer"); r.typ != "Customer" && r.typ != "Attachment" && p.chance(2, "moves") {
		owner = oneOf(p, "new owner", above...).id
		values["customerID"] = owner
	}
	version := r.version
	if p.chance(8, "stale") {
		version++
	}
	want, to := lifecycle.Code(""), p.m.row[owner]
	moved := values["customerID"] != nil
	switch {
	case !p.m.sees(who, r):
		want = lifecycle.Code(p.m.lost(who, r))
	case !p.m.may(who, "update", r.by):
		want = lifecycle.Forbidden
	case !r.state.Editable():
		want = lifecycle.RecordNotEditable
	case version != r.version:
		want = lifecycle.Conflict
	case moved && !p.m.sees(who, to):
		want = lifecycle.BadUserInput
	case moved && !to.live():
		want = lifecycle.ParentRetired
	case !r.claim(p.taken(), owner, unique):
		want = lifecycle.UniqueConflict
	}
	p.Logf("%s changes %s: %v", who, r.id, values)
	_, err := p.svc.Update(p.as(who), r.id, version, values)
	require.Equal(p.T, want, code(err), "updating: %v", err)
	if err == nil {
		r.version++
		r.owner = owner
		maps.Copy(r.unique, unique)
	}
}

// draw draws an operation.
func (p *play) draw() ask {
	q := ask{who: "admin"}
	if !p.chance(2, "admin") {
		q.who = oneOf(p, "who", append(actors, "manager", "manager", "agent")...)
	}
	q.verb = oneOf(p, "verb", lifecycle.Delete, lifecycle.Delete, lifecycle.Delete, lifecycle.Void, lifecycle.Archive, lifecycle.Archive, lifecycle.Suspend, lifecycle.Suspend,
		lifecycle.Restore, lifecycle.Restore, lifecycle.Restore, lifecycle.Restore, lifecycle.Undo, lifecycle.Undo, lifecycle.Purge)
	if q.verb == lifecycle.Purge {
		q.who = oneOf(p, "purges", "purger", "purger", "system", "system", "admin")
		q.live = p.chance(3, "includes live")
	}
	q.bestEffort = p.chance(2, "best effort")
	if len(p.order) > 0 && q.who != "system" && (q.verb == lifecycle.Undo || p.chance(8, "by operation")) {
		q.of = oneOf(p, "operation", append(p.order, gid.New(gid.Operation))...)
	} else if q.verb == lifecycle.Undo {
		q.verb = lifecycle.Delete
	}
	if q.of == gid.Nil {
		q.picks = p.picks()
	}
	switch q.verb {
	case lifecycle.Delete, lifecycle.Void:
		q.cascade = p.chance(3, "cascade")
	case lifecycle.Suspend:
		q.short = !p.steady && p.chance(3, "short")
	case lifecycle.Restore:
		q.ancestors, q.mends = p.chance(3, "with ancestors"), true
		if p.chance(4, "moves") {
			q.parent = oneOf(p, "new parent", slices.Concat(p.m.all, p.ofType("Customer"), p.ofType("Customer"))...).id
		}
	}
	return q
}

// near are the record picked last, what it hangs on and what hangs on it: what
// happens twice to one tree is more telling than what happens to two.
func (p *play) near() []*row {
	var out []*row
	hangs := func(r, on *row) bool { return p.m.up(r, func(o *row) bool { return o == on }) != nil }
	for _, r := range p.m.all {
		if p.last != nil && !r.gone && (r == p.last || hangs(r, p.last) || hangs(p.last, r)) {
			out = append(out, r)
		}
	}
	return out
}

func (p *play) picks() []pick {
	versions := p.chance(4, "versions")
	var picks []pick
	for range rapid.IntRange(1, 4).Draw(p.T, "picks") {
		r := oneOf(p, "pick", p.m.all...)
		if near := p.near(); len(near) > 0 && p.chance(2, "near") {
			r = oneOf(p, "pick near", near...)
		}
		k := pick{id: r.id}
		p.last = r
		if p.chance(25, "no record") {
			k.id = oneOf(p, "id", p.foreign, gid.New(gid.Message), gid.New(gid.User))
		}
		if versions {
			k.version = max(1, r.version-oneOf(p, "behind", 0, 0, 0, 1))
		}
		picks = append(picks, k)
	}
	return picks
}

// mend draws new values for some of the picks of a restore.
func (p *play) mend(q *ask) {
	q.overrides = map[gid.ID]map[string]string{}
	for _, k := range q.picks {
		r := p.m.row[k.id]
		if r == nil || !p.chance(5, "mended") {
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(uniques[r.typ])) {
			if p.chance(2, "mends "+field) {
				q.overrides[k.id] = map[string]string{field: oneOf(p, field, append(uniques[r.typ][field], "z"+strconv.Itoa(len(p.order)))...)}
			}
		}
	}
}

func (q ask) String() string {
	var picks []string
	for _, k := range q.picks {
		picks = append(picks, fmt.Sprintf("%s@%d", k.id, k.version))
	}
	return fmt.Sprintf("%s: %s of %s %v, best effort %t, cascade %t, with ancestors %t, new parent %s, %v, short %t, live %t",
		q.who, q.verb, q.of, picks, q.bestEffort, q.cascade, q.ancestors, q.parent, q.overrides, q.short, q.live)
}

func (q ask) request() record.Request {
	req := record.Request{Verb: q.verb, Mode: record.AllOrNothing, Reason: "because", Cascade: q.cascade, WithAncestors: q.ancestors, Overrides: q.overrides, IncludeLive: q.live}
	if q.bestEffort {
		req.Mode = record.BestEffort
	}
	if q.parent != gid.Nil {
		req.NewParentID = &q.parent
	}
	switch {
	case q.of != gid.Nil:
		req.Select.Operation = &q.of
	case q.picks[0].version != 0:
		for _, k := range q.picks {
			req.Select.Versions = append(req.Select.Versions, record.Version{ID: k.id, Version: k.version})
		}
	default:
		for _, k := range q.picks {
			req.Select.IDs = append(req.Select.IDs, k.id)
		}
	}
	return req
}

// run asks the system and the model for an operation and compares.
func (p *play) run(q ask) *ent.Operation {
	picks, refused := p.m.selected(p.ops, q)
	if refused == "" {
		q.picks = picks
		if q.mends {
			p.mend(&q)
		}
		refused = p.m.refused(q)
	}
	p.Logf("%s", q)
	var op *ent.Operation
	var err error
	req := q.request()
	if q.verb == lifecycle.Suspend {
		until := p.clock.now().Add(24 * 365 * time.Hour)
		if q.short {
			until = p.clock.now().Add(time.Second)
		}
		req.Until = &until
	}
	if q.verb == lifecycle.Undo {
		op, err = p.svc.Undo(p.as(q.who), q.of, req)
	} else {
		op, err = p.svc.Run(p.as(q.who), req)
	}
	if q.short {
		p.clock.add(2 * time.Second)
	}
	require.Equal(p.T, refused, code(err), "%v", err)
	if refused != "" {
		p.met[string(q.verb)+" refused "+string(refused)]++
		return nil
	}
	require.NoError(p.T, err)
	say, set, picked := p.m.plan(q)
	before := map[gid.ID]row{}
	for r := range set {
		before[r.id] = *r
	}
	p.m.apply(q, op.ID, set, picked)
	items := p.items(op)
	p.compareItems(q, op, items, say, set, picked, before)
	p.ops[op.ID] = &ran{who: q.who, verb: q.verb}
	if op.Changed > 0 || len(p.order) == 0 { // what changed nothing is seldom asked for again
		p.order = append(p.order, op.ID)
	}
	for _, it := range items {
		if it.Outcome == operationitem.OutcomeCHANGED {
			p.ops[op.ID].changed = append(p.ops[op.ID].changed, it.RecordID)
		}
	}
	return op
}

func (p *play) items(op *ent.Operation) []*ent.OperationItem {
	items, err := p.svc.Client(p.ctx).Operation.QueryItems(op).Order(ent.Asc("id")).All(p.ctx)
	require.NoError(p.T, err)
	return items
}

func (p *play) compareItems(q ask, op *ent.Operation, items []*ent.OperationItem, say []string, set, picked map[*row]bool, before map[gid.ID]row) {
	require.Len(p.T, items, len(say)+len(set)-len(picked)*btoi(len(set) > 0), "expected %v and what comes along", say)
	counts := map[string]int{}
	for i, it := range items {
		got := string(it.Outcome)
		counts[got]++
		if it.Code != nil {
			got += " " + *it.Code
		}
		p.met[string(q.verb)+" "+got]++
		r := p.m.row[it.RecordID]
		require.Equal(p.T, i < len(say), it.Direct, "item %d", i)
		if i < len(say) {
			require.Equal(p.T, q.picks[i].id, it.RecordID, "items are in input order")
			if !failed(say[i]) || it.Code == nil || !has(say[i], *it.Code) || !failed(got) {
				require.Equal(p.T, say[i], got, "item of %s", it.RecordID)
			}
		} else {
			require.True(p.T, set[r] && !picked[r] && got == "CHANGED", "%s came along: %s", it.RecordID, got)
			if last := items[i-1]; i > len(say) {
				require.True(p.T, last.Depth < it.Depth || last.Depth == it.Depth && strings.Compare(last.RecordID.UUID(), it.RecordID.UUID()) < 0, "by depth and id")
			}
		}
		if it.Outcome != operationitem.OutcomeCHANGED {
			continue
		}
		b := before[it.RecordID]
		require.Equal(p.T, b.state, *it.PriorState)
		require.Equal(p.T, b.version, it.Version)
		require.Equal(p.T, b.op, deref(it.PriorOperationID))
		again := q.verb == lifecycle.Suspend && b.state == lifecycle.Suspended // it stays with the operation before
		if !q.restores() && q.verb != lifecycle.Purge && !again {
			require.Equal(p.T, r.cameWith, deref(it.CameWith), "what %s came with", it.RecordID)
		}
	}
	status := "SUCCEEDED"
	if counts["FAILED"] > 0 {
		status = map[bool]string{true: "PARTIAL", false: "FAILED"}[counts["CHANGED"] > 0]
	}
	require.Equal(p.T, []any{status, len(items), len(items), counts["CHANGED"], counts["UNCHANGED"], counts["FAILED"]},
		[]any{string(op.Status), op.Total, op.Processed, op.Changed, op.Unchanged, op.Failed})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func deref(id *gid.ID) gid.ID {
	if id == nil {
		return gid.Nil
	}
	return *id
}

// load reads every record of the tenant.
func (p *play) load() map[gid.ID]ent.Record {
	out := map[gid.ID]ent.Record{}
	for _, t := range ent.RecordTypes {
		rows, err := p.svc.Client(p.ctx).QueryRecords(p.ctx, t.Name)
		require.NoError(p.T, err)
		for _, r := range rows {
			out[r.RecordID()] = r
		}
	}
	return out
}

// compare insists that every row is what the model says.
func (p *play) compare() {
	rows := p.load()
	for _, r := range p.m.all {
		got := rows[r.id]
		delete(rows, r.id)
		require.Equal(p.T, r.gone, got == nil, "%s is purged", r.id)
		if r.gone {
			continue
		}
		want := map[string]any{"state": r.state, "version": r.version, "owner_id": r.by.user, "team_id": r.by.team}
		if r.op != gid.Nil {
			want["operation_id"], want["prior_state"] = r.op, r.top()
		}
		if owner := p.m.row[r.owner]; owner != nil {
			want[strings.ToLower(owner.typ)+"_id"] = owner.id
			require.True(p.T, owner.live() || !r.live(), "%s lives below the retired %s", r.id, owner.id)
		}
		for field, to := range r.weak {
			want[column(r.typ, field)] = to
		}
		for field, value := range r.unique {
			if value != "" {
				want[column(r.typ, field)] = value
			}
		}
		have := map[string]any{}
		columns := []string{"state", "version", "owner_id", "team_id", "operation_id", "prior_state"}
		for _, e := range got.RecordType().Edges {
			columns = append(columns, e.Column)
		}
		for _, u := range got.RecordType().Uniques {
			columns = append(columns, u.Field)
		}
		for _, c := range columns {
			if v := got.Column(c); v != nil {
				have[c] = v
			}
		}
		require.Equal(p.T, want, have, "%s", r.id)
		require.Equal(p.T, []bool{r.orphan, r.state.Retired()}, []bool{got.Column("orphaned_at") != nil, got.Column("retired_at") != nil}, "%s is an orphan, is retired", r.id)
		suspended := r.state == lifecycle.Suspended || slices.ContainsFunc(r.stack, func(l life) bool { return l.state == lifecycle.Suspended })
		require.Equal(p.T, suspended, got.Column("suspended_until") != nil, "%s is to wake", r.id)
		clock := ""
		if at, ok := got.Column("purge_after").(time.Time); ok {
			clock = at.UTC().Format(time.RFC3339Nano)
		}
		if r.clock == "fresh" && clock != "" {
			r.clock = clock
		}
		require.Equal(p.T, r.clock, clock, "the clock of %s", r.id)
	}
	require.Empty(p.T, rows, "rows that nobody made")
}

// plant draws a forest.
func (p *play) plant() {
	for range rapid.IntRange(3, 12).Draw(p.T, "records") {
		p.grow("admin")
	}
	p.compare()
}

// snapshot is every column of every row, but for some.
func (p *play) snapshot(without func(r ent.Record) []string) map[string]any {
	out := map[string]any{}
	for id, r := range p.load() {
		for _, c := range r.RecordType().Columns {
			if v := r.Column(c); v != nil && !slices.Contains(without(r), c) {
				out[id.String()+" "+c] = plain(v)
			}
		}
	}
	return out
}

// root draws a live record, customers more often than others.
func (p *play) root() *row {
	live := slices.DeleteFunc(slices.Concat(p.m.all, p.ofType("Customer"), p.ofType("Customer")), func(r *row) bool { return !r.live() })
	if len(live) == 0 {
		return nil
	}
	return oneOf(p, "root", live...)
}

func TestPropertyRestoreAfterDeleteIsIdentity(t *testing.T) {
	property(t, func(p *play) int {
		p.steady = true
		p.plant()
		before := rapid.IntRange(0, 6).Draw(p.T, "steps before")
		for range before {
			p.run(p.draw())
		}
		root := p.root()
		if root == nil {
			return before
		}
		// A record that is back in ACTIVE says who restored it, and when.
		volatile := func(r ent.Record) []string {
			if r.RecordState() == lifecycle.Active {
				return []string{"version", "updated_at", "state_changed_at", "state_changed_by_id"}
			}
			return []string{"version", "updated_at"}
		}
		want, versions := p.snapshot(volatile), map[gid.ID]int{}
		for _, r := range p.m.all {
			versions[r.id] = r.version
		}
		picks := []pick{{id: root.id}}
		op := p.run(ask{who: "admin", verb: lifecycle.Delete, cascade: true, picks: picks})
		p.compare()
		require.Positive(p.T, op.Changed)
		back := p.run(ask{who: "manager", verb: lifecycle.Restore, picks: picks})
		if back.Changed == 0 { // not his
			back = p.run(ask{who: "admin", verb: lifecycle.Restore, picks: picks})
		}
		p.compare()
		require.Equal(p.T, op.Changed, back.Changed)
		require.Equal(p.T, want, p.snapshot(volatile))
		for _, r := range p.m.all {
			require.Contains(p.T, []int{versions[r.id], versions[r.id] + 2}, r.version, "the version of %s", r.id)
		}
		p.replay()
		return before + 2
	})
}

func TestPropertySequencesEndWhereTheyBegan(t *testing.T) {
	property(t, func(p *play) int {
		p.steady = true
		p.plant()
		before := rapid.IntRange(0, 6).Draw(p.T, "steps before")
		for range before {
			p.run(p.draw())
		}
		root := p.root()
		if root == nil {
			return before
		}
		// What says where a record is in its life, but not when it last moved.
		volatile := func(ent.Record) []string {
			return []string{"version", "updated_at", "state_changed_at", "state_changed_by_id"}
		}
		want, depth := p.snapshot(volatile), 0
		do := func(verb lifecycle.Verb) {
			if verb == lifecycle.Suspend && root.state == lifecycle.Suspended {
				return // another end is no step on the stack, and is not taken back
			}
			op := p.run(ask{who: "admin", verb: verb, cascade: p.chance(2, "cascade"), picks: []pick{{id: root.id}}})
			switch {
			case op.Changed == 0:
			case verb == lifecycle.Restore:
				depth--
			default:
				depth++
			}
		}
		steps := rapid.IntRange(1, 8).Draw(p.T, "steps")
		for range steps {
			verbs := []lifecycle.Verb{lifecycle.Void, lifecycle.Archive, lifecycle.Delete, lifecycle.Suspend}
			if depth > 0 {
				verbs = append(verbs, lifecycle.Restore)
			}
			do(oneOf(p, "verb", verbs...))
		}
		for n := depth; n > 0; n-- {
			do(lifecycle.Restore)
		}
		require.Zero(p.T, depth, "each step is taken back by a restore")
		p.compare()
		require.Equal(p.T, want, p.snapshot(volatile))
		return before + steps
	})
}

func TestPropertyRandomVerbsAgreeWithTheModel(t *testing.T) {
	property(t, func(p *play) int {
		p.plant()
		steps := rapid.IntRange(3, 15).Draw(p.T, "steps")
		for range steps {
			if len(p.m.all) == 0 {
				p.grow("admin")
			}
			switch who := oneOf(p, "actor", append(actors, "admin", "admin")...); rapid.IntRange(0, 9).Draw(p.T, "step") {
			case 0:
				p.grow(who)
			case 1:
				p.edit(who)
			default:
				p.run(p.draw())
			}
			p.compare()
		}
		p.replay()
		return steps
	})
}

// replay folds the audit log and insists that it ends where the rows are, with
// one event for each version and a tombstone for each purge.
func (p *play) replay() {
	rows := p.load()
	events, err := p.svc.Client(p.ctx).AuditEvent.Query().Where(auditevent.OutcomeEQ(auditevent.OutcomeSUCCEEDED)).Order(ent.Asc("id")).All(p.ctx)
	require.NoError(p.T, err)
	versions, states, values := map[gid.ID]int{}, map[gid.ID]lifecycle.State{}, map[gid.ID]map[string]any{}
	purges := map[gid.ID]int{}
	for _, e := range events {
		id := *e.RecordID
		versions[id]++
		require.Equal(p.T, versions[id], *e.Version, "the version of event %s", e.ID)
		from, to := lifecycle.State(""), lifecycle.State("")
		if e.From != nil {
			from = *e.From
		}
		if e.To != nil {
			to = *e.To
		}
		require.Equal(p.T, states[id], from, "the state before event %s", e.ID)
		states[id] = to
		if e.Action == "PURGE" {
			purges[id]++
			require.Empty(p.T, to)
		}
		if rows[id] == nil {
			continue // its seal is gone, and its values with it
		}
		seal, _ := rows[id].Column("seal").([]byte)
		personal, err := p.log.Open(p.tenant, seal, e.ID, e.Sealed)
		require.NoError(p.T, err)
		if values[id] == nil {
			values[id] = map[string]any{}
		}
		last := map[string]any{}
		for _, c := range personal.Changes {
			if c.Field == "lastActivityAt" || strings.HasPrefix(c.Field, "suspended") {
				continue // no event says how it came to be, or it is no field of the record's own
			}
			if has("DELETE VOID ARCHIVE", e.Action) {
				last[c.Field] = plain(c.Old)
				continue
			}
			delete(values[id], c.Field)
			if c.New != nil {
				values[id][c.Field] = plain(c.New)
			}
		}
		if has("DELETE VOID ARCHIVE", e.Action) {
			require.Equal(p.T, values[id], last, "the last values in event %s", e.ID)
		}
	}
	for _, r := range p.m.all {
		require.Equal(p.T, r.version, versions[r.id], "events of %s", r.id)
		require.Equal(p.T, btoi(r.gone), purges[r.id], "purges of %s", r.id)
		if r.gone {
			continue
		}
		require.Equal(p.T, r.state, states[r.id], "the state of %s by its events", r.id)
		have := map[string]any{}
		for _, f := range rows[r.id].RecordType().Fields {
			ofBytes := f.Name == "size" || f.Name == "sha256" // which no input sets and events tell of
			if v := rows[r.id].Column(f.Name); v != nil && (!f.ReadOnly || ofBytes) {
				have[f.GraphQL] = plain(v)
			}
		}
		require.Equal(p.T, values[r.id], have, "the values of %s by its events", r.id)
	}
	var gone []string
	for _, r := range p.m.all {
		if r.gone {
			gone = append(gone, r.id.UUID())
		}
	}
	require.ElementsMatch(p.T, gone, p.rows(`SELECT record_id FROM tombstones WHERE tenant_id = ?`, p.tenant))
}

// plain is a value as JSON has it.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encoding %v: %v", v, err))
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(fmt.Sprintf("decoding %s: %v", b, err))
	}
	if s, ok := out.(string); ok {
		if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return at.UTC().Format(time.RFC3339Nano)
		}
	}
	return out
}
