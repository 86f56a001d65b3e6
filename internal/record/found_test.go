package record_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store/storetest"
)

// unindexed leaves the records as a version without an index of words left them, for
// a process that has just started.
func (w *world) unindexed() {
	w.t.Helper()
	w.exec(`DELETE FROM search_entries`)
	w.exec(`DELETE FROM search_progress`)
	if w.db.Dialect() != "postgres" {
		w.exec(`INSERT INTO search_words (search_words) VALUES ('delete-all')`)
	}
	w.restarted()
}

func (w *world) reindexed() {
	w.t.Helper()
	_, err := w.svc.Reindex(w.t.Context(), 0)
	require.NoError(w.t, err)
}

func (w *world) swept(want int) {
	w.t.Helper()
	n, err := w.svc.Sweep(w.t.Context())
	require.NoError(w.t, err)
	require.Equal(w.t, want, n)
}

// TestNothingIsPurgedThatWordsWouldKeepBeforeTheyAreFound has a hold, and a rule that keeps.
func TestNothingIsPurgedThatWordsWouldKeepBeforeTheyAreFound(t *testing.T) {
	for name, keeps := range map[string]func(w *world){
		"hold": func(w *world) { w.mustHold(record.Hold{Filter: w.filter("Note", `{"search":"secrets"}`)}) },
		"rule": func(w *world) {
			w.ruleBy("compliance", record.RetentionRule{Type: "Note", Term: term(900), Action: lifecycle.KeepAction}, `{"search":"secrets"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(w *world) {
				w.also(map[string]string{"manager": "purger"})
				note := func(body string) gid.ID {
					return w.create("agent", "Note", record.Values{"body": body, "happenedAt": w.db.Now()}).RecordID()
				}
				secret, plain, other := note("a secret"), note("plain"), note("other")
				call := w.call()
				keeps(w)
				w.delete("agent", secret, plain, other, call)
				w.unindexed()
				w.clock.add(31 * 24 * time.Hour)
				w.swept(1)
				require.Equal(w.t, []lifecycle.State{"DELETED", "DELETED", "DELETED", ""}, w.states(secret, plain, other, call), "nobody can say yet which of the notes are kept")
				op := w.run("manager", record.Request{Verb: lifecycle.Purge, Mode: record.BestEffort, Select: record.Selection{IDs: []gid.ID{secret, plain}}})
				require.Equal(w.t, []lifecycle.State{"DELETED", ""}, w.states(secret, plain), "who asks for them by name has them found first: %v", w.outcomes(op))
				w.swept(0)
				w.exec(`INSERT INTO search_progress (record_type, version, last, done) VALUES ('Note', 0, ?, ?)`, gid.Nil, true) // of another version of the index
				w.swept(0)
				w.reindexed()
				w.swept(1)
				require.Equal(w.t, []lifecycle.State{"DELETED", ""}, w.states(secret, other))
			})
		})
	}
}

func TestARecordIsKeptThatIsChangedBeforeItsWordsAreFound(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		m, n := w.message("agent", c, "secret"), w.message("agent", c, "plain")
		w.mustHold(record.Hold{Filter: w.filter("Message", `{"search":"secrets"}`)})
		w.unindexed()
		for _, id := range []gid.ID{m, n} {
			_, err := w.svc.Update(w.as("agent"), id, 1, record.Values{"subject": "nothing"})
			require.NoError(w.t, err)
		}
		w.reindexed()
		require.Equal(w.t, []bool{true, false}, w.held(m, n))
	})
}

func TestNoRuleActsByWordsThatAreNotFoundYet(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		secret, plain := w.message("agent", c, "secret"), w.message("agent", c, "plain")
		id := w.ruleBy("compliance", record.RetentionRule{Type: "Message", Term: term(30), Action: lifecycle.DeleteAction}, `{"not":{"search":"secrets"}}`)
		w.clock.add(40 * day)
		w.ruled(0)
		w.clock.add(2 * day)
		w.unindexed()
		w.ruled(0)
		_, err := w.svc.RunRule(w.as("compliance"), id)
		require.Equal(w.t, lifecycle.Conflict, code(err))
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ACTIVE"}, w.states(secret, plain))
		w.reindexed()
		w.ruled(1)
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "DELETED"}, w.states(secret, plain))
	})
}

func TestNoVerbSelectsByWordsThatAreNotFoundYet(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		secret, plain := w.message("agent", c, "secret"), w.message("agent", c, "plain")
		w.unindexed()
		one := 1
		for typ, filter := range map[string]string{"Message": `{"or":[{"not":{"search":"secrets"}}]}`, "Customer": `{"hasMessagesWith":[{"search":"secret"}]}`} {
			req := record.Request{Verb: lifecycle.Archive, ExpectedCount: &one, Select: record.Selection{Filter: w.filter(typ, filter)}}
			_, err := w.svc.Run(w.as("agent"), req)
			require.Equal(w.t, lifecycle.Conflict, code(err), typ)
			require.ErrorContains(w.t, err, "found by their words yet")
			_, err = w.svc.Preview(w.as("agent"), req)
			require.Equal(w.t, lifecycle.Conflict, code(err), typ)
			require.ErrorContains(w.t, err, "found by their words yet")
		}
		w.reindexed()
		w.run("agent", record.Request{Verb: lifecycle.Archive, ExpectedCount: &one, Select: record.Selection{Filter: w.filter("Message", `{"not":{"search":"secrets"}}`)}})
		require.Equal(w.t, []lifecycle.State{"ACTIVE", "ARCHIVED"}, w.states(secret, plain))
	})
}

func TestRecordsAreFoundPastALostRaceAndAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.Postgres) // on SQLite writers take turns
	c := w.customer("agent", "a")
	w.message("agent", c, "secret")
	w.unindexed()
	// A sequence remembers what a transaction did that was rolled back.
	w.exec(`CREATE SEQUENCE races`)
	w.exec(`CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.record_type = 'Message' THEN RAISE EXCEPTION 'no message'; END IF;
			IF nextval('races') < 3 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
			RETURN NEW; END $$`)
	w.exec(`CREATE TRIGGER races BEFORE INSERT ON search_progress FOR EACH ROW EXECUTE FUNCTION lose()`)
	n, err := w.svc.Reindex(w.t.Context(), 0)
	require.ErrorContains(w.t, err, "finding words of messages")
	require.Equal(w.t, 1, n)
	require.Len(w.t, w.rows(`SELECT record_type FROM search_progress WHERE done`), len(ent.RecordTypes)-1)
	w.exec(`DROP TRIGGER races ON search_progress`)
	w.reindexed()
}

func TestWordsAreForgottenOnceAfterAPurge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.SQLite) // PostgreSQL does so by itself
	merges := func() (n int) {
		w.sql.reset()
		require.NoError(t, w.svc.Forget(t.Context(), 0))
		for _, q := range w.sql.list {
			if strings.Contains(q, "'merge'") {
				n++
			}
		}
		return n
	}
	a := w.customer("agent", "a")
	w.delete("agent", a)
	require.Zero(t, merges(), "nothing was purged")
	w.clock.add(31 * day)
	w.swept(1)
	require.Positive(t, merges())
	require.Zero(t, merges())
}

func TestLargeTextsAreTakenApartAFewAtATime(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		var all []gid.ID
		for range 10 { // of 250 KB, 2.5 MB together
			all = append(all, w.create("agent", "Message", record.Values{"body": strings.Repeat("letters ", 31_250), "sentAt": w.db.Now(), "customerID": c}).RecordID())
		}
		w.unindexed()
		w.sql.reset()
		w.reindexed()
		batches := 0
		for _, q := range w.sql.list {
			if strings.Contains(q, "INSERT INTO search_progress") {
				batches++
			}
		}
		require.Equal(w.t, len(ent.RecordTypes)+1, batches)
		require.Len(w.t, w.rows(`SELECT record_id FROM search_entries`), len(all)+1)
	})
}
