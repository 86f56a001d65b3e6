package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

const (
	tenantName = "bench"
	manager    = "manager@bench.example"
	auditor    = "auditor@bench.example"
	purger     = "purger@bench.example"
	north      = "North"
	south      = "South"
	// batch is how many messages one delete by filter takes: all that an
	// operation may.
	batch = 1_000
	// chunk is how many rows are written in one transaction.
	chunk = 10_000
)

// seeder fills a database with rows as a few years of use would leave them,
// except for the audit events of their creation.
type seeder struct {
	db     *store.DB
	random *rand.Rand
	source io.Reader
	clock  time.Time
	ids    *gid.Generator

	tenant gid.ID
	teams  [2]gid.ID   // North, whose rows the manager sees, and South
	owners [2][]gid.ID // by team

	begin, end time.Time // of the messages
	customers  []customerSeed
	assigned   []int32 // the customer of each message, in the order of time
}

// customerSeed is what is known of a customer before rows are written.
type customerSeed struct {
	id, contact gid.ID
	team        int
	messages    int
	created     time.Time
	last        time.Time // of its messages
}

// people makes the tenant with its users and returns who there is.
func people(ctx context.Context, db *store.DB, keys *audit.Keys, s *seeder) error {
	who := identity.New(db, audit.New(keys), nil)
	var err error
	if s.tenant, err = who.CreateTenant(ctx, tenantName); err != nil {
		return err
	}
	for _, u := range []struct {
		email, role string
		team        int
	}{
		{manager, casbin.Manager, 0},
		{"ann@bench.example", casbin.Agent, 0},
		{"ben@bench.example", casbin.Agent, 0},
		{"cai@bench.example", casbin.Agent, 1},
		{"dana@bench.example", casbin.Agent, 1},
		{auditor, casbin.Compliance, 1},
		{purger, casbin.Purger, 0},
	} {
		id, err := who.CreateUser(ctx, s.tenant, u.email, u.email, []string{[]string{north, south}[u.team]})
		if err != nil {
			return err
		}
		if err := who.GrantRole(ctx, s.tenant, id, u.role); err != nil {
			return err
		}
		if u.role != casbin.Compliance && u.role != casbin.Purger {
			s.owners[u.team] = append(s.owners[u.team], id)
		}
	}
	for i, name := range []string{north, south} {
		if s.teams[i], err = who.EnsureTeam(ctx, s.tenant, name); err != nil {
			return err
		}
	}
	return nil
}

// seed fills an empty, migrated database.
func seed(ctx context.Context, db *store.DB, keys *audit.Keys, customers, messages int) error {
	if messages < 10*customers || messages%customers != 0 {
		return errors.New("a customer has 10 messages on average, or more")
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same rows each time
	s := &seeder{db: db, random: random, source: randomBytes{random}, end: db.Now().Add(-24 * time.Hour)}
	s.begin = s.end.AddDate(-3, 0, 0)
	s.ids = gid.NewGenerator(func() time.Time { return s.clock }, s.source)
	if err := people(ctx, db, keys, s); err != nil {
		return err
	}
	s.plan(customers, messages)
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"customers and contacts", s.writeCustomers}, {"messages", s.writeMessages}, {"calls, notes, tasks, deals and attachments", s.writeRest},
		{"words", func(ctx context.Context) error {
			_, err := record.New(db, nil, audit.New(keys), nil).Reindex(ctx, 0)
			return err
		}},
		{"statistics", s.analyze},
	} {
		start := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("writing %s: %w", step.what, err)
		}
		sayf("wrote %s in %s", step.what, time.Since(start).Round(time.Millisecond))
	}
	return nil
}

// plan decides how many messages each customer has, and in which order they come:
// in rounds, in each of which a customer has one message or none.
func (s *seeder) plan(customers, messages int) {
	average := messages / customers
	s.customers = make([]customerSeed, customers)
	created := s.begin.AddDate(-1, 0, 0)
	every := s.begin.Sub(created) / time.Duration(customers)
	for i := range s.customers {
		s.clock = created.Add(time.Duration(i) * every)
		s.customers[i] = customerSeed{
			id: s.ids.New(gid.Customer), contact: s.ids.New(gid.Contact), team: i % 2, created: s.clock, messages: average,
		}
	}
	for range 2 * customers { // from 5 to 15, if the average is 10
		from, to := &s.customers[s.random.IntN(customers)], &s.customers[s.random.IntN(customers)]
		if from != to && from.messages > average/2 && to.messages < 3*average/2 {
			from.messages--
			to.messages++
		}
	}
	rounds := make([][]int32, 3*average/2)
	for i, c := range s.customers {
		for _, round := range s.random.Perm(len(rounds))[:c.messages] {
			rounds[round] = append(rounds[round], int32(i))
		}
	}
	s.assigned = make([]int32, 0, messages)
	for _, list := range rounds {
		s.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		s.assigned = append(s.assigned, list...)
	}
	for i, c := range s.assigned {
		s.customers[c].last = s.sentAt(i)
	}
}

// threads names the thread of each message. Those of a team that were sent one
// after the other share one, as a mailing does, as many as a delete by filter
// takes; what is left over in the end is a thread of its own. Within a round no
// customer has part in two threads, so that deletes of neighbouring threads have
// no row in common.
func (s *seeder) threads() func(team int) string {
	var left, sent [2]int
	for _, c := range s.assigned {
		left[s.customers[c].team]++
	}
	return func(team int) string {
		n := sent[team] / batch
		sent[team]++
		if (n+1)*batch > left[team] {
			return fmt.Sprintf("thread-%d-rest", team)
		}
		return fmt.Sprintf("thread-%d-%05d", team, n)
	}
}

// sentAt is when the message of that place was sent.
func (s *seeder) sentAt(i int) time.Time {
	return s.begin.Add(s.end.Sub(s.begin) / time.Duration(len(s.assigned)) * time.Duration(i)).UTC().Truncate(time.Microsecond)
}

// insert writes n rows made by row, a chunk at a time.
func (s *seeder) insert(ctx context.Context, n int, insert func(ctx context.Context, tx *store.Tx, from, to int) error) error {
	for from := 0; from < n; from += chunk {
		err := s.db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
			if tx.Dialect() == "postgres" {
				// References are right by construction; checking each is half the time.
				if _, err := store.Build(tx).Add(`SET LOCAL session_replication_role = replica`).Exec(ctx, tx); err != nil {
					return err
				}
			}
			return insert(ctx, tx, from, min(from+chunk, n))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// analyze takes the planner's statistics, and on PostgreSQL the visibility map. It
// does that itself before long; SQLite waits to be told, as the operator's
// PRAGMA optimize does. Tables that are empty now and fill up while it is measured
// would mislead SQLite, so that nothing is said of them.
func (s *seeder) analyze(ctx context.Context) error {
	statements := []string{`ANALYZE`,
		`DELETE FROM sqlite_stat1 WHERE tbl IN ('operations', 'operation_items', 'audit_events') OR idx IN ('message_operation_id', 'message_purge_after')`,
		`PRAGMA wal_checkpoint(TRUNCATE)`}
	if s.db.Dialect() == "postgres" {
		statements = []string{`VACUUM (ANALYZE)`, `CHECKPOINT`}
	}
	for _, statement := range statements {
		if _, err := store.Build(s.db).Add(statement).Exec(ctx, s.db); err != nil {
			return err
		}
	}
	return nil
}

// randomBytes reads from a source of numbers.
type randomBytes struct{ *rand.Rand }

func (r randomBytes) Read(p []byte) (int, error) {
	var b [8]byte
	for n := 0; n < len(p); n += len(b) {
		binary.LittleEndian.PutUint64(b[:], r.Uint64())
		copy(p[n:], b[:])
	}
	return len(p), nil
}
