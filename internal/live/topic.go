package live

import (
	"context"
	"fmt"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// topic is an operation, or a user who may be told something.
type topic struct {
	signals map[*Signal]struct{}
	state   string // of what it was when it was last looked at
}

func (t *topic) raise() {
	if t == nil {
		return
	}
	for signal := range t.signals {
		signal.raise()
	}
}

// Signal is raised when an operation gets on, or when a user is told something; where
// that is missed, two seconds later. The caller ends it.
func (f *Feed) Signal(of gid.ID) (signal *Signal, end func()) {
	made := newSignal()
	signal = &made
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.topics[of] == nil {
		f.topics[of] = &topic{signals: map[*Signal]struct{}{}}
	}
	t := f.topics[of]
	t.signals[signal] = struct{}{}
	return signal, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(t.signals, signal)
		if len(t.signals) == 0 && f.topics[of] == t {
			delete(f.topics, of)
		}
	}
}

// lookForTopics raises the signals of what is not as it was: with two statements,
// however many wait.
func (f *Feed) lookForTopics(ctx context.Context) error {
	var operations, users []gid.ID
	f.mu.Lock()
	for id := range f.topics {
		if id.Type() == gid.User {
			users = append(users, id)
		} else {
			operations = append(operations, id)
		}
	}
	f.mu.Unlock()
	states := map[gid.ID]string{}
	scan := func(row store.Row) error {
		var id gid.ID
		var state string
		err := row.Scan(&id, &state)
		states[id] = state
		return err
	}
	if len(operations) > 0 {
		stmt := store.Build(f.db).Add(`SELECT id, status || ' ' || CAST(total AS text) || ' ' || CAST(processed AS text) || ' ' || CAST(changed AS text) || ' ' || CAST(failed AS text) FROM operations WHERE `)
		if err := stmt.IDs("id", operations).Query(ctx, f.db, scan); err != nil {
			return fmt.Errorf("looking for operations that got on: %w", err)
		}
	}
	if len(users) > 0 {
		stmt := store.Build(f.db).Add(`SELECT user_id, CAST(count(*) AS text) || ' ' || CAST(max(at) AS text) FROM notifications WHERE `)
		if err := stmt.IDs("user_id", users).Add(` GROUP BY user_id`).Query(ctx, f.db, scan); err != nil {
			return fmt.Errorf("looking for notifications: %w", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, state := range states {
		if t := f.topics[id]; t != nil && t.state != state {
			t.state = state
			t.raise()
		}
	}
	return nil
}

// Waiting is how many wait for changes or signals.
func (f *Feed) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, t := range f.tenants {
		n += len(t.readers)
	}
	for _, t := range f.topics {
		n += len(t.signals)
	}
	return n
}
