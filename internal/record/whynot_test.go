package record_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
)

func TestWhyNotAnswersWhatTheVerbWould(t *testing.T) {
	each(t, func(w *world) {
		why := func(as string, id gid.ID, action authz.Action) []lifecycle.Code {
			w.t.Helper()
			reasons, err := w.svc.WhyNot(w.as(as), id, action)
			require.NoError(w.t, err)
			codes := []lifecycle.Code{}
			for _, r := range reasons {
				codes = append(codes, r.Code)
			}
			return codes
		}
		type codes = []lifecycle.Code
		c, d := w.customer("agent", "a"), w.customer("agent", "held by a deal")
		w.deal("agent", d, "d")
		m := w.message("agent", c, "m")
		archived, voided, deleted := w.customer("agent", "archived"), w.customer("agent", "voided"), w.customer("agent", "deleted")
		w.run("agent", record.Request{Verb: lifecycle.Archive, Select: record.Selection{IDs: []gid.ID{archived}}})
		w.void("manager", voided)
		w.delete("agent", deleted)
		theirs := w.customer("agent2", "theirs")
		before := w.rows(`SELECT COUNT(*) FROM audit_events`)
		for _, test := range []struct {
			as     string
			id     gid.ID
			action authz.Action
			want   codes
		}{
			{"agent", c, authz.Delete, codes{}},
			{"agent", c, authz.Archive, codes{}},
			{"agent", c, authz.Update, codes{}},
			{"agent", c, authz.Read, codes{}},
			{"agent", c, authz.Suspend, codes{}},
			{"agent", c, authz.Void, codes{lifecycle.Forbidden}},
			{"manager", c, authz.Void, codes{}},
			{"viewer", c, authz.Delete, codes{lifecycle.Forbidden}},
			{"viewer", c, authz.Update, codes{lifecycle.Forbidden}},
			{"agent", d, authz.Delete, codes{lifecycle.HasDependents}},
			{"agent", c, authz.Purge, codes{lifecycle.Forbidden}},
			{"purger", c, authz.Purge, codes{lifecycle.NotRetired}},
			{"purger", deleted, authz.Purge, codes{}},
			{"agent", deleted, authz.Restore, codes{}},
			{"agent", deleted, authz.Delete, codes{}},
			{"agent", deleted, authz.Archive, codes{lifecycle.IllegalTransition}},
			{"agent", deleted, authz.Update, codes{lifecycle.RecordNotEditable}},
			{"viewer", archived, authz.Update, codes{lifecycle.Forbidden, lifecycle.RecordNotEditable}},
			{"agent", archived, authz.Suspend, codes{lifecycle.IllegalTransition}},
			{"agent", deleted, authz.ReadRetired, codes{}},
			{"viewer", deleted, authz.ReadRetired, codes{lifecycle.NotFound}},
			{"manager", voided, authz.Void, codes{}},
			{"agent", theirs, authz.Delete, codes{lifecycle.NotFound}},
			{"viewer", theirs, authz.Delete, codes{lifecycle.NotFound}},
			{"stranger", c, authz.Read, codes{lifecycle.NotFound}},
			{"agent", gid.New(gid.Customer), authz.Read, codes{lifecycle.NotFound}},
			{"agent", w.users["agent"], authz.Delete, codes{lifecycle.NotFound}},
			{"agent", c, authz.Export, codes{lifecycle.Forbidden}},
			{"compliance", c, authz.Export, codes{}},
		} {
			require.Equal(w.t, test.want, why(test.as, test.id, test.action), "%s %s %s", test.as, test.action, w.state(test.id))
		}
		require.Equal(w.t, before, w.rows(`SELECT COUNT(*) FROM audit_events`), "asking is no refusal")

		w.delete("agent", c)
		require.Equal(w.t, codes{lifecycle.ParentRetired}, why("agent", m, authz.Restore))
		w.purge("purger", c)
		require.Equal(w.t, codes{lifecycle.Gone}, why("purger", c, authz.Purge))
		require.Equal(w.t, codes{lifecycle.Gone}, why("admin", c, authz.Delete))
		require.Equal(w.t, codes{lifecycle.NotFound}, why("agent", c, authz.Delete))
	})
}

func TestWhyNotCarriesWhatStandsInTheWay(t *testing.T) {
	each(t, func(w *world) {
		c := w.customer("agent", "a")
		w.deal("agent", c, "d")
		reasons, err := w.svc.WhyNot(w.as("agent"), c, authz.Delete)
		require.NoError(w.t, err)
		require.Equal(w.t, []*record.Reason{{Code: lifecycle.HasDependents, Record: c, Blockers: []record.Blocker{{Code: lifecycle.HasDependents, Type: "Deal", Count: 1}}}}, reasons)

		other := w.customer("agent", "b")
		w.caps(nil, nil, 0, nil)
		reasons, err = w.svc.WhyNot(w.as("agent"), other, authz.Delete)
		require.NoError(w.t, err)
		require.Len(w.t, reasons, 2)
		require.Equal(w.t, []lifecycle.Code{lifecycle.Limit, lifecycle.ApprovalRequired}, []lifecycle.Code{reasons[0].Code, reasons[1].Code})
		require.Equal(w.t, []record.Blocker{byAdmin}, reasons[1].Blockers)
		require.NotEmpty(w.t, reasons[0].Message)
		require.Equal(w.t, []record.Blocker{{Code: lifecycle.Limit, Field: "brakeHour", Limit: 0, Count: 1}}, reasons[0].Blockers)
	})
}
