package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func (w *world) clockOf(id gid.ID) time.Time {
	w.t.Helper()
	at, _ := w.get(id).Column("purge_after").(time.Time)
	return at.UTC()
}

func TestALongerBinKeepsWhatIsInItAndAShorterOneWhatComes(t *testing.T) {
	each(t, func(w *world) {
		ids := []gid.ID{w.customer("agent", "a"), w.customer("agent", "b"), w.customer("agent", "c")}
		elsewhere := w.create("stranger", "Customer", record.Values{"name": "d"}).RecordID()
		w.delete("stranger", elsewhere)
		live := w.customer("agent", "live")
		apart := w.clockOf(elsewhere)
		day := 24 * time.Hour
		deleted := func(id gid.ID) time.Time { at, _ := w.get(id).Column("state_changed_at").(time.Time); return at.UTC() }
		set := func(version, days int) *record.Settings {
			s, _, err := w.svc.UpdateSettings(w.as("admin"), version, map[string]*int{"binDays": &days})
			require.NoError(w.t, err)
			return s
		}
		w.delete("agent", ids[0])
		s := set(1, 10)
		require.Equal(w.t, 2, s.Version)
		require.Equal(w.t, 10, *s.Value("binDays"))
		require.Equal(w.t, deleted(ids[0]).Add(30*day), w.clockOf(ids[0]), "shortening is for later deletions")
		w.delete("agent", ids[1])
		require.Equal(w.t, deleted(ids[1]).Add(10*day), w.clockOf(ids[1]))
		set(2, 20)
		require.Equal(w.t, deleted(ids[0]).Add(30*day), w.clockOf(ids[0]), "what waits for longer goes on to")
		require.Equal(w.t, deleted(ids[1]).Add(20*day), w.clockOf(ids[1]))
		require.Equal(w.t, 4, set(3, 40).Version)
		require.Equal(w.t, deleted(ids[0]).Add(40*day), w.clockOf(ids[0]))
		require.Equal(w.t, deleted(ids[1]).Add(40*day), w.clockOf(ids[1]))
		require.Equal(w.t, apart, w.clockOf(elsewhere), "another tenant's bin is its own")
		require.Nil(w.t, w.get(live).Column("purge_after"))
		w.eventsMatchChanges()
	})
}

func TestSettingsAreChangedByWhoMayAndSawThem(t *testing.T) {
	each(t, func(w *world) {
		_, err := w.svc.Settings(w.as("agent"))
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		_, _, err = w.svc.UpdateSettings(w.as("agent"), 1, map[string]*int{"purgeDay": nil})
		require.Equal(w.t, lifecycle.Forbidden, code(err))
		require.Equal(w.t, []string{"FORBIDDEN"}, w.rows(`SELECT code FROM audit_events WHERE action = 'SETTINGS_UPDATE'`))
		for name, v := range map[string]*int{"binDays": nil, "holdReleaseDays": new(-1), "brakePercent": new(101), "purgeDay": new(-1)} {
			_, _, err = w.svc.UpdateSettings(w.as("admin"), 1, map[string]*int{name: v})
			require.Equal(w.t, lifecycle.BadUserInput, code(err), name)
		}
		_, _, err = w.svc.UpdateSettings(w.as("admin"), 2, map[string]*int{"purgeDay": nil})
		require.Equal(w.t, lifecycle.Conflict, code(err))
		s, _, err := w.svc.UpdateSettings(w.as("admin"), 1, map[string]*int{"purgeDay": nil, "brakeDay": new(7), "holdReleaseDays": new(3), "brakeHour": new(2_000)})
		require.NoError(w.t, err)
		require.Nil(w.t, s.Value("purgeDay"))
		require.Equal(w.t, 7, *s.Value("brakeDay"))
		detail := w.rows(`SELECT CAST(detail AS text) FROM audit_events WHERE action = 'SETTINGS_UPDATE' AND outcome = 'SUCCEEDED'`)
		require.Len(w.t, detail, 1)
		require.JSONEq(w.t, `{"settings": {"purgeDay": {"old": 50000, "new": null}, "brakeDay": {"old": 5000, "new": 7}, "holdReleaseDays": {"old": 30, "new": 3}}, "shortens": ["holdReleaseDays"]}`, detail[0])
		again, _, err := w.svc.UpdateSettings(w.as("admin"), 2, map[string]*int{"brakeDay": new(7)})
		require.NoError(w.t, err)
		require.Equal(w.t, 2, again.Version, "what changes nothing leaves no trace")
		read, err := w.svc.Settings(w.as("admin"))
		require.NoError(w.t, err)
		require.Equal(w.t, s, read)
		require.Len(w.t, w.rows(`SELECT id FROM audit_events WHERE action = 'SETTINGS_UPDATE' AND outcome = 'SUCCEEDED'`), 1)
	})
}
