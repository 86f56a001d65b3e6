package identity_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
)

func TestOfManyUpdatesOfOneVersionOneWins(t *testing.T) {
	each(t, func(w *world) {
		var all sync.WaitGroup
		var won, lost atomic.Int32
		for i := range 8 {
			all.Go(func() {
				name := fmt.Sprint("Alan ", i)
				err := w.svc.UpdateUser(w.ctx, w.tenant, w.agent, 1, identity.UserChange{Name: &name})
				var conflict *identity.ConflictError
				switch {
				case err == nil:
					won.Add(1)
				case errors.As(err, &conflict) && conflict.Version == 2:
					lost.Add(1)
				default:
					w.Errorf("another error: %v", err)
				}
			})
		}
		all.Wait()
		require.Equal(w, int32(1), won.Load())
		require.Equal(w, int32(7), lost.Load())
	})
}

func TestWhatCountsAsAChangeOfAUser(t *testing.T) {
	each(t, func(w *world) {
		version := 1
		change := func(c identity.UserChange) error {
			return w.svc.UpdateUser(w.ctx, w.tenant, w.agent, version, c)
		}
		before := len(w.events())
		name, email, subject := "Alan", "agent@acme.example", ""
		teams := must(w.svc.TeamsOf(w.ctx, w.tenant, w.agent))
		require.NoError(w, change(identity.UserChange{Name: &name, Email: &email, Subject: &subject, Teams: &teams}), "all as it is")
		require.Len(w, w.events(), before)

		// Letting in and keeping out are changes, too.
		require.NoError(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.agent))
		name = "Al"
		var conflict *identity.ConflictError
		require.ErrorAs(w, change(identity.UserChange{Name: &name}), &conflict)
		version = conflict.Version
		require.NoError(w, change(identity.UserChange{Name: &name}))
		require.Equal(w, "USER_UPDATE", w.last().action)
		require.JSONEq(w, fmt.Sprintf(`{"user": %q, "version": %d, "changed": ["name"]}`, w.agent, version+1), w.last().detail)

		// A team that is not there undoes all of the change.
		version++
		name, teams = "Alfred", []gid.ID{gid.New(gid.Team)}
		require.ErrorIs(w, change(identity.UserChange{Name: &name, Teams: &teams}), identity.ErrNotFound)
		require.Equal(w, "Al", must(w.svc.UserByEmail(w.ctx, w.tenant, email)).Name)
		require.Len(w, must(w.svc.TeamsOf(w.ctx, w.tenant, w.agent)), 1)
	})
}

func TestOneSubjectMeansOneUserOfATenant(t *testing.T) {
	each(t, func(w *world) {
		one := must(w.svc.CreateUserIn(w.ctx, w.tenant, identity.NewUser{Email: "one@acme.example", Name: "One", Subject: "0815"}))
		_, err := w.svc.CreateUserIn(w.ctx, w.tenant, identity.NewUser{Email: "two@acme.example", Name: "Two", Subject: "0815"})
		require.ErrorIs(w, err, identity.ErrExists)
		_, err = w.svc.UserByEmail(w.ctx, w.tenant, "two@acme.example")
		require.ErrorIs(w, err, identity.ErrNotFound, "nothing of him is left")
		other := must(w.svc.CreateTenant(w.ctx, "other"))
		must(w.svc.CreateUserIn(w.ctx, other, identity.NewUser{Email: "one@acme.example", Name: "One", Subject: "0815"}))
		a := must(w.svc.Named(w.ctx, "acme", identity.BySubject, "0815"))
		require.Equal(w, one, a.User)
		_, err = w.svc.Named(w.ctx, "acme", identity.BySubject, "")
		require.ErrorIs(w, err, identity.ErrUnauthenticated)
		_, err = w.svc.CreateUserIn(w.ctx, w.tenant, identity.NewUser{Email: "x@acme.example", Name: "X", Subject: " 1"})
		require.ErrorIs(w, err, identity.ErrInvalid)
	})
}
