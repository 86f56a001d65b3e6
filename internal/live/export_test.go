package live

import "context"

// Look is look.
func (f *Feed) Look(ctx context.Context) error { return f.look(ctx) }

// Blind has a feed look for nothing by itself, and say when it listens.
func (f *Feed) Blind(listening func()) *Feed {
	f.poll, f.listening = 1<<60, listening
	return f
}

// MaxWaiting is maxWaiting.
const MaxWaiting = maxWaiting
