package pdp

import (
	"context"
	"fmt"
	"maps"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// asked is a question, and why no plugin needs to be asked it.
type asked struct {
	authz.Request

	wrong   error      // it is malformed
	refused authz.Code // it is about somebody or something that is not there
}

// open reports whether the chain is to be asked.
func (q *asked) open() bool { return q.wrong == nil && q.refused == "" }

// resolve adds to questions what Lethe itself knows of their users and records,
// in one statement for the users and one for each type.
func (h *handler) resolve(ctx context.Context, tenant gid.ID, questions []*asked) error {
	for _, q := range questions {
		if q.wrong == nil {
			props, err := h.Control.Typed(q.Resource.Type, q.Resource.Props)
			if q.Resource.Props = props; err != nil {
				q.wrong = malformed("resource.properties: " + err.Error())
			}
		}
	}
	if err := h.resolveSubjects(ctx, tenant, questions); err != nil {
		return err
	}
	return h.resolveResources(ctx, questions)
}

// resolveSubjects gives users their teams, which policies take for granted: what
// a caller says of the teams of a user that Lethe knows does not count.
func (h *handler) resolveSubjects(ctx context.Context, tenant gid.ID, questions []*asked) error {
	of := map[gid.ID][]*asked{}
	for _, q := range questions {
		if !q.open() || q.Subject.Type != "user" {
			continue
		}
		if casbin.UserSubject(q.Subject.ID) == casbin.System { // nobody signs in as that
			q.refused = codeSubjectNotFound
			continue
		}
		if id, err := gid.Parse(q.Subject.ID); err == nil && id.Type() == gid.User {
			of[id] = append(of[id], q)
		}
	}
	users, err := h.users(ctx, tenant, of)
	if err != nil {
		return err
	}
	for id, qs := range of {
		u, found := users[id]
		for _, q := range qs {
			switch {
			case !found:
				q.refused = codeSubjectNotFound
			case !u.active:
				q.refused = codeSubjectInactive
			default:
				props := make(map[string]any, len(q.Subject.Props)+1)
				maps.Copy(props, q.Subject.Props)
				props["teams"] = u.teams
				q.Subject = authz.Entity{Type: "user", ID: id.String(), Props: props}
			}
		}
	}
	return nil
}

type user struct {
	active bool
	teams  []string
}

func (h *handler) users(ctx context.Context, tenant gid.ID, of map[gid.ID][]*asked) (map[gid.ID]user, error) {
	if len(of) == 0 {
		return nil, nil
	}
	out := make(map[gid.ID]user, len(of))
	ids := make([]gid.ID, 0, len(of))
	for id := range of {
		ids = append(ids, id)
	}
	err := store.Build(h.DB).Add("SELECT u.id, u.active, m.team_id FROM users u LEFT JOIN user_teams m ON m.user_id = u.id WHERE u.tenant_id = ? AND ", tenant).
		IDs("u.id", ids).Add(" ORDER BY u.id, m.team_id").Query(ctx, h.DB, func(rows store.Row) error {
		var id, team gid.ID
		u := user{teams: []string{}}
		if err := rows.Scan(&id, &u.active, &team); err != nil {
			return err
		}
		if known, ok := out[id]; ok {
			u.teams = known.teams
		}
		if !team.IsZero() {
			u.teams = append(u.teams, team.String())
		}
		out[id] = u
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading users: %w", err)
	}
	return out, nil
}

// resolveResources loads the records that questions are about. What the caller
// says of a record takes the place of what the database has.
func (h *handler) resolveResources(ctx context.Context, questions []*asked) error {
	of := map[*ent.RecordType]map[gid.ID][]*asked{}
	for _, q := range questions {
		if !q.open() {
			continue
		}
		t := ent.RecordTypeNamed(q.Resource.Type)
		// Of other applications' types it is an id like others: what a caller leaves
		// out of such a thing is unknown, and not null.
		whole := q.Resource.ID == asWhole && own(q.Resource.Type)
		if whole || t != nil && q.Action == authz.Create { // what is created is not there yet
			q.Resource.ID = ""
			continue
		}
		if t == nil {
			continue
		}
		id, err := gid.Parse(q.Resource.ID)
		if err != nil || id.Type() != t.Type {
			q.refused = codeResourceNotFound
			continue
		}
		if of[t] == nil {
			of[t] = map[gid.ID][]*asked{}
		}
		of[t][id] = append(of[t][id], q)
	}
	for t, byID := range of {
		ids := make([]any, 0, len(byID))
		for id := range byID {
			ids = append(ids, id)
		}
		records, err := h.Records.Client(ctx).QueryRecords(ctx, t.Name, func(s *sql.Selector) { s.Where(sql.In(s.C("id"), ids...)) })
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.Table, err)
		}
		found := make(map[gid.ID]ent.Record, len(records))
		for _, r := range records {
			found[r.RecordID()] = r
		}
		for id, qs := range byID {
			for _, q := range qs {
				q.about(id, found[id])
			}
		}
	}
	return nil
}

// own reports whether a type is one of Lethe's.
func own(typ string) bool {
	_, ok := ownTypes[typ]
	return ok
}

var ownTypes = access.Vocabulary().Schema

// about makes a question one about a record, nil for one that is not there.
func (q *asked) about(id gid.ID, r ent.Record) {
	if r == nil {
		q.refused = codeResourceNotFound
		return
	}
	retired := isRetired(r)
	if q.Action == authz.Read && retired || q.Action == authz.ReadRetired && !retired {
		q.refused = codeOtherState
		return
	}
	props := access.RecordProps(r)
	maps.Copy(props, q.Resource.Props)
	q.Resource = authz.Entity{Type: q.Resource.Type, ID: id.String(), Props: props}
}

func isRetired(r ent.Record) bool { return r.Column("retired_at") != nil }
