package identity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/identity"
)

func TestWhoMayStayIsAskedOfAllAtOnce(t *testing.T) {
	each(t, func(w *world) {
		now := w.clock.now()
		token := must(w.svc.CreateToken(w.ctx, w.tenant, w.agent, 24*time.Hour))
		revoked := must(w.svc.CreateToken(w.ctx, w.tenant, w.agent, 24*time.Hour))
		short := must(w.svc.CreateToken(w.ctx, w.tenant, w.admin, time.Hour))
		session := must(w.svc.RedeemLink(w.ctx, must(w.svc.CreateLink(w.ctx, w.tenant, w.admin, time.Hour)).Secret, "r-1"))
		var actors []*actor.Actor
		for _, c := range []identity.Credential{token, revoked, short, session} {
			actors = append(actors, must(w.svc.Authenticate(w.ctx, c.Secret)))
		}
		issued := func(user gid.ID, expires time.Time) *actor.Actor {
			return &actor.Actor{Kind: actor.Token, Tenant: w.tenant, User: user, Credential: gid.New(gid.Token), Expires: expires}
		}
		actors = append(actors, issued(w.agent, now.Add(3*time.Hour)), issued(w.agent, now.Add(time.Hour)))
		still := func(want ...bool) []*actor.Actor {
			t.Helper()
			w.mu.Lock()
			before := len(w.statements)
			w.mu.Unlock()
			got, err := w.svc.Still(w.ctx, actors)
			require.NoError(w, err)
			w.mu.Lock()
			require.LessOrEqual(w, len(w.statements)-before, 3)
			w.mu.Unlock()
			in := make([]bool, len(got))
			for i, a := range got {
				in[i] = a != nil
				if a != nil {
					require.Equal(w, actors[i].Credential, a.Credential)
				}
			}
			require.Equal(w, want, in)
			return got
		}
		got := still(true, true, true, true, true, true)
		require.Equal(w, actors[0].Teams, got[0].Teams)

		require.NoError(w, w.svc.RevokeToken(w.ctx, w.tenant, revoked.ID))
		team := must(w.svc.CreateTeam(w.ctx, w.tenant, "More"))
		require.NoError(w, w.svc.AddToTeam(w.ctx, w.tenant, w.agent, team))
		got = still(true, false, true, true, true, true)
		require.Contains(w, got[0].Teams, team)
		require.NotContains(w, got[3].Teams, team)
		w.clock.add(2 * time.Hour)
		still(true, false, false, true, true, false)
		w.clock.add(identity.SessionIdle)
		still(false, false, false, false, false, false)
		w.clock.add(-identity.SessionIdle)
		require.NoError(w, w.svc.DeactivateUser(w.ctx, w.tenant, w.agent))
		still(false, false, false, true, false, false)
		require.NoError(w, w.svc.RevokeSession(w.ctx, w.tenant, session.ID))
		still(false, false, false, false, false, false)
	})
}
