package pdp

import (
	"context"
	"fmt"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// found is a page of a search.
type found struct {
	Results []any `json:"results"`
	Page    page  `json:"page"`
}

type page struct {
	NextToken string `json:"next_token"` // empty where there is no more
	Count     int    `json:"count"`
}

type foundEntity struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type foundAction struct {
	Name string `json:"name"`
}

// source lists candidates after one, ascending and at most so many. What it lists
// is only asked about; the chain decides.
type source func(ctx context.Context, after string, limit int) ([]authz.Entity, error)

// known is a source of what plugins know.
func (h *handler) known(tenant gid.ID, sought authz.Sought, typ string) source {
	return func(ctx context.Context, after string, limit int) ([]authz.Entity, error) {
		found, err := h.Control.Search(ctx, authz.Search{Tenant: tenant.String(), For: sought, Type: typ, After: after, Limit: limit})
		for i := range found {
			found[i].Type = typ
		}
		return found, err
	}
}

// knows reports whether Lethe, its configuration or a plugin knows a type of
// resources. A rule about every type says nothing of one that is not there.
func (h *handler) knows(ctx context.Context, tenant gid.ID, typ string) (bool, error) {
	if _, ok := h.Control.Vocabulary().Schema[typ]; ok {
		return true, nil
	}
	listed, err := h.known(tenant, authz.SoughtResources, typ)(ctx, "", 1)
	return len(listed) > 0, err
}

func (h *handler) searchSubjects(ctx context.Context, tenant gid.ID, body map[string]any) (any, error) {
	q := authz.Request{Tenant: tenant.String()}
	var err error
	if q.Subject, err = part(body, "subject", false); err != nil {
		return nil, err
	}
	if q.Action, q.ActionProps, err = actionOf(body); err != nil {
		return nil, err
	}
	if q.Resource, err = part(body, "resource", true); err != nil {
		return nil, err
	}
	if err = h.inContext(&q, body); err != nil {
		return nil, err
	}
	c, err := cursorOf(body)
	if err != nil {
		return nil, err
	}
	if _, err := h.Control.Typed(q.Resource.Type, q.Resource.Props); err != nil {
		return nil, malformed("resource.properties: " + err.Error())
	}
	ok, err := h.knows(ctx, tenant, q.Resource.Type)
	if err != nil {
		return nil, err
	}
	if !ok {
		return c.nothing(), nil
	}
	sources := []source{h.known(tenant, authz.SoughtSubjects, q.Subject.Type)}
	if q.Subject.Type == "user" {
		sources = append([]source{h.activeUsers(tenant)}, sources...)
	}
	return h.search(ctx, tenant, c, sources, func(e authz.Entity) authz.Request {
		r := q
		r.Subject.ID, r.Subject.Props = e.ID, override(e.Props, q.Subject.Props)
		return r
	})
}

// activeUsers lists the users of a tenant.
func (h *handler) activeUsers(tenant gid.ID) source {
	return func(ctx context.Context, after string, limit int) ([]authz.Entity, error) {
		from, err := startAfter(after)
		if err != nil {
			return nil, err
		}
		var out []authz.Entity
		err = store.Build(h.DB).Add("SELECT id FROM users WHERE tenant_id = ? AND active = ? AND id > ? ORDER BY id LIMIT ?", tenant, true, from, limit).
			Query(ctx, h.DB, func(rows store.Row) error {
				var id gid.ID
				err := rows.Scan(&id)
				out = append(out, authz.Entity{Type: "user", ID: id.String()})
				return err
			})
		if err != nil {
			return nil, fmt.Errorf("listing users: %w", err)
		}
		return out, nil
	}
}

// startAfter is where a list of Lethe's own goes on.
func startAfter(text string) (gid.ID, error) {
	if text == "" {
		return gid.Nil, nil
	}
	id, err := gid.Parse(text)
	if err != nil {
		return id, malformed("page.token is none")
	}
	return id, nil
}

func (h *handler) searchResources(ctx context.Context, tenant gid.ID, body map[string]any) (any, error) {
	q := authz.Request{Tenant: tenant.String()}
	var err error
	if q.Subject, err = part(body, "subject", true); err != nil {
		return nil, err
	}
	if q.Action, q.ActionProps, err = actionOf(body); err != nil {
		return nil, err
	}
	if q.Resource, err = part(body, "resource", false); err != nil {
		return nil, err
	}
	if err = h.inContext(&q, body); err != nil {
		return nil, err
	}
	c, err := cursorOf(body)
	if err != nil {
		return nil, err
	}
	sources := []source{h.known(tenant, authz.SoughtResources, q.Resource.Type)}
	if t := ent.RecordTypeNamed(q.Resource.Type); t != nil {
		sources = []source{h.records(t, tenant, q)}
	}
	return h.search(ctx, tenant, c, sources, func(e authz.Entity) authz.Request {
		r := q
		r.Resource.ID, r.Resource.Props = e.ID, e.Props
		return r
	})
}

// records lists the records that the plan of the chain lets through: the
// database finds them, and none is read to be thrown away. Deciding on them once
// more holds them to members of the chain that cannot plan.
func (h *handler) records(t *ent.RecordType, tenant gid.ID, q authz.Request) source {
	return func(ctx context.Context, after string, limit int) ([]authz.Entity, error) {
		if q.Action == authz.Create { // nothing that is there
			return nil, nil
		}
		from, err := startAfter(after)
		if err != nil {
			return nil, err
		}
		subject := &asked{Request: q}
		if err := h.resolveSubjects(ctx, tenant, []*asked{subject}); err != nil || !subject.open() {
			return nil, err
		}
		plan := subject.Request
		plan.Resource = authz.Entity{Type: t.Name}
		rows, err := h.Records.Client(ctx).QueryRecords(ctx, t.Name, h.Control.Narrow(ctx, plan), func(s *sql.Selector) {
			if q.Action == authz.Read {
				s.Where(sql.IsNull(s.C("retired_at")))
			}
			if q.Action == authz.ReadRetired {
				s.Where(sql.NotNull(s.C("retired_at")))
			}
			s.Where(sql.GT(s.C("id"), from))
			s.OrderBy(s.C("id")).Limit(limit)
		})
		if err != nil {
			return nil, fmt.Errorf("searching %s: %w", t.Table, err)
		}
		out := make([]authz.Entity, len(rows))
		for i, r := range rows {
			out[i] = authz.Entity{Type: t.Name, ID: r.RecordID().String()}
		}
		return out, nil
	}
}

// search asks about candidates, some at a time, until the page is full. After so
// many of them it ends with what it has: the rest is for the next page.
func (h *handler) search(ctx context.Context, tenant gid.ID, c cursor, sources []source, ask func(authz.Entity) authz.Request) (found, error) {
	out := c.nothing()
	if c.Source >= len(sources) {
		return out, malformed("page.token is none")
	}
	for scanned := 0; c.Source < len(sources); c.Source, c.After = c.Source+1, "" {
		for more := true; more; {
			if scanned >= maxScan {
				return c.end(out), nil
			}
			candidates, err := sources[c.Source](ctx, c.After, chunk)
			if err != nil {
				return out, err
			}
			more = len(candidates) == chunk
			scanned += len(candidates)
			questions := make([]*asked, len(candidates))
			for i, e := range candidates {
				questions[i] = &asked{Request: ask(e)}
			}
			if err := h.resolve(ctx, tenant, questions); err != nil {
				return out, err
			}
			for i, d := range h.decide(ctx, questions) {
				if d.Decision && len(out.Results) == c.limit { // there is one more
					return c.end(out), nil
				}
				c.After = candidates[i].ID
				if d.Decision {
					out.Results = append(out.Results, foundEntity{candidates[i].Type, candidates[i].ID})
				}
			}
		}
	}
	out.Page.Count = len(out.Results)
	return out, nil
}

// searchActions asks about every action of the catalogue, and those that plugins
// know. They are few, so there is one page.
func (h *handler) searchActions(ctx context.Context, tenant gid.ID, body map[string]any) (any, error) {
	q := authz.Request{Tenant: tenant.String()}
	var err error
	if q.Subject, err = part(body, "subject", true); err != nil {
		return nil, err
	}
	if q.Resource, err = part(body, "resource", true); err != nil {
		return nil, err
	}
	if err = h.inContext(&q, body); err != nil {
		return nil, err
	}
	c, err := cursorOf(body)
	if err != nil {
		return nil, err
	}
	out := c.nothing()
	ok, err := h.knows(ctx, tenant, q.Resource.Type)
	if err != nil || !ok {
		return out, err
	}
	others, err := h.known(tenant, authz.SoughtActions, q.Resource.Type)(ctx, "", maxEvaluations)
	if err != nil {
		return nil, err
	}
	names := authz.Actions()
	for _, e := range others {
		if a := authz.Action(e.ID); !a.Known() {
			names = append(names, a)
		}
	}
	var questions []*asked
	for _, name := range names {
		if name == authz.Create && ent.RecordTypeNamed(q.Resource.Type) != nil && q.Resource.ID != asWhole {
			continue // the record is there
		}
		r := q
		r.Action = name
		questions = append(questions, &asked{Request: r})
	}
	if err := h.resolve(ctx, tenant, questions); err != nil {
		return nil, err
	}
	for i, d := range h.decide(ctx, questions) {
		if questions[i].wrong != nil {
			return nil, questions[i].wrong
		}
		if d.Decision {
			out.Results = append(out.Results, foundAction{string(questions[i].Action)})
		}
	}
	out.Page.Count = len(out.Results)
	return out, nil
}
