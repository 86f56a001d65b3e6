package policy

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// Source reads policies from the database. It reads what is committed, also
// within a transaction.
type Source struct{ DB *store.DB }

var _ interface {
	casbin.Source
	casbin.Watcher
	casbin.HeadsReader
} = Source{}

// Head implements casbin.Source. A tenant that is not there has version 0.
func (s Source) Head(ctx context.Context, tenant string) (uint64, error) {
	id, err := parseTenant(tenant)
	if err != nil {
		return 0, err
	}
	var version uint64
	_, err = store.Build(s.DB).Add("SELECT version FROM policy_heads WHERE tenant_id = ?", id).One(ctx, s.DB.Aside(), &version)
	return version, err
}

// Heads implements casbin.HeadsReader.
func (s Source) Heads(ctx context.Context, tenants []string) (map[string]uint64, error) {
	ids := make([]gid.ID, len(tenants))
	for i, tenant := range tenants {
		var err error
		if ids[i], err = parseTenant(tenant); err != nil {
			return nil, err
		}
	}
	heads := make(map[string]uint64, len(tenants))
	err := store.Build(s.DB).Add("SELECT tenant_id, version FROM policy_heads WHERE ").IDs("tenant_id", ids).
		Query(ctx, s.DB.Aside(), func(rows store.Row) error {
			var id gid.ID
			var version uint64
			err := rows.Scan(&id, &version)
			heads[id.String()] = version
			return err
		})
	return heads, err
}

// channel is where the trigger policy_heads_changed sends the tenant's id.
const channel = "lethe_policy"

// Watch implements casbin.Watcher, on PostgreSQL.
func (s Source) Watch(ctx context.Context, changed func(tenant string)) error {
	err := s.DB.Listen(ctx, channel, func() { changed("") }, func(payload string) {
		id, err := gid.ParseUUID(payload)
		if err != nil { // whoever sent it meant something
			changed("")
			return
		}
		changed(id.String())
	})
	if errors.Is(err, store.ErrNoNotifications) {
		return casbin.ErrCannotWatch
	}
	return err
}

// Load implements casbin.Source.
func (s Source) Load(ctx context.Context, tenant string) (uint64, []casbin.Rule, error) {
	id, err := parseTenant(tenant)
	if err != nil {
		return 0, nil, err
	}
	p, err := load(ctx, s.DB.Aside(), id)
	return p.Version, p.Rules, err
}

func parseTenant(tenant string) (gid.ID, error) {
	id, err := gid.Parse(tenant)
	if err == nil && id.Type() != gid.Tenant {
		err = gid.ErrMalformed
	}
	if err != nil {
		return gid.Nil, fmt.Errorf("tenant %q: %w", tenant, err)
	}
	return id, nil
}

// load reads version and rows in one statement, which sees one moment.
func load(ctx context.Context, q store.Querier, tenant gid.ID) (Policy, error) {
	p := Policy{Tenant: tenant}
	var duties sql.NullString
	err := store.Build(q).Add("SELECT h.version, h.duties, r.ptype, r.v0, r.v1, r.v2, r.v3, r.v4, r.v5 FROM policy_heads h"+
		" LEFT JOIN policy_rules r ON r.tenant_id = h.tenant_id WHERE h.tenant_id = ? ORDER BY r.position, r.id", tenant).
		Query(ctx, q, func(rows store.Row) error {
			var ptype sql.NullString
			var v [6]sql.NullString
			if err := rows.Scan(&p.Version, &duties, &ptype, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]); err != nil {
				return err
			}
			if !ptype.Valid { // a policy without rows
				return nil
			}
			rule := casbin.Rule{Ptype: ptype.String}
			for i := range v {
				rule.V[i] = v[i].String
			}
			p.Rules = append(p.Rules, rule)
			return nil
		})
	if err != nil {
		return Policy{}, fmt.Errorf("reading a policy: %w", err)
	}
	p.Duties, err = decodeDuties(duties)
	return p, err
}

func decodeDuties(text sql.NullString) ([]Duty, error) {
	if !text.Valid || text.String == "" {
		return nil, nil
	}
	var duties []Duty
	if err := json.Unmarshal([]byte(text.String), &duties); err != nil {
		return nil, fmt.Errorf("reading the duties of a policy: %w", err)
	}
	return duties, nil
}

func encodeDuties(duties []Duty) (any, error) {
	if len(duties) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(duties)
	if err != nil {
		return nil, fmt.Errorf("encoding the duties of a policy: %w", err)
	}
	return string(b), nil
}

func insertRules(ctx context.Context, tx *store.Tx, tenant gid.ID, start int, rules []casbin.Rule) error {
	rows := make([][]any, len(rules))
	for i, r := range rules {
		rows[i] = []any{gid.New(gid.Policy), tenant, int64(start + i), r.Ptype, r.V[0], r.V[1], r.V[2], r.V[3], r.V[4], r.V[5]}
	}
	return tx.Insert(ctx, "policy_rules", []string{"id", "tenant_id", "position", "ptype", "v0", "v1", "v2", "v3", "v4", "v5"}, rows)
}

// lock reads a tenant's policy and keeps others from changing it, or who is
// active, until the transaction ends.
func lock(ctx context.Context, tx *store.Tx, tenant gid.ID) (Policy, error) {
	var version uint64
	ok, err := store.Build(tx).Add("SELECT version FROM policy_heads WHERE tenant_id = ?", tenant).ForUpdate().One(ctx, tx, &version)
	if err != nil {
		return Policy{}, fmt.Errorf("locking a policy: %w", err)
	}
	if !ok {
		return Policy{}, fmt.Errorf("tenant %s: %w", tenant, ErrNotFound)
	}
	return load(ctx, tx, tenant)
}

// Create gives a new tenant the default policy and its first revision.
func Create(ctx context.Context, tx *store.Tx, tenant gid.ID) error {
	if _, err := store.Build(tx).Add("INSERT INTO policy_heads (tenant_id, version) VALUES (?, 1)", tenant).Exec(ctx, tx); err != nil {
		return err
	}
	p := Policy{Tenant: tenant, Version: 1, Rules: casbin.DefaultRules(tenant.String())}
	if err := insertRules(ctx, tx, tenant, 0, p.Rules); err != nil {
		return err
	}
	return writeRevision(ctx, tx, p, nil, "The default policy")
}

// Adopt writes the revision of policies that were stored before there were
// revisions. It is quick where there is nothing to do.
func Adopt(ctx context.Context, db *store.DB) error {
	const without = " FROM policy_heads h WHERE NOT EXISTS (SELECT 1 FROM policy_revisions r WHERE r.tenant_id = h.tenant_id AND r.version = h.version)"
	var some int
	if ok, err := store.Build(db).Add("SELECT 1"+without+" LIMIT 1").One(ctx, db, &some); err != nil || !ok {
		return err
	}
	return db.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		var tenants []gid.ID
		err := store.Build(tx).Add("SELECT h.tenant_id"+without+" ORDER BY h.tenant_id").ForUpdate().Query(ctx, tx, func(rows store.Row) error {
			var id gid.ID
			if err := rows.Scan(&id); err != nil {
				return err
			}
			tenants = append(tenants, id)
			return nil
		})
		for _, t := range tenants { // once in the life of a tenant
			var p Policy
			if err == nil {
				p, err = load(ctx, tx, t)
			}
			if err == nil {
				err = writeRevision(ctx, tx, p, nil, "The policy as it was before changes were kept")
			}
		}
		return err
	})
}

func writeRevision(ctx context.Context, tx *store.Tx, p Policy, author *gid.ID, message string) error {
	duties, err := encodeDuties(p.Duties)
	if err != nil {
		return err
	}
	var by any
	if author != nil {
		by = *author
	}
	return tx.Insert(ctx, "policy_revisions", []string{"id", "tenant_id", "version", "author_id", "message", "rows", "duties", "created_at"},
		[][]any{{gid.New(gid.PolicyRevision), p.Tenant, int64(p.Version), by, message, p.CSV(), duties, tx.Now()}}) //nolint:gosec // versions count changes
}

// Revision is a policy as one change left it.
type Revision struct {
	Policy
	Author  *gid.ID
	Message string
}

// revision reads one version of a policy, or answers ErrNotFound.
func revision(ctx context.Context, q store.Querier, tenant gid.ID, version uint64) (Revision, error) {
	r := Revision{Policy: Policy{Tenant: tenant, Version: version}}
	var rows string
	var duties sql.NullString
	var author gid.ID
	ok, err := store.Build(q).Add("SELECT rows, duties, author_id, message FROM policy_revisions WHERE tenant_id = ? AND version = ?", tenant, int64(version)). //nolint:gosec // versions count changes
																					One(ctx, q, &rows, &duties, &author, &r.Message)
	switch {
	case err != nil:
		return r, fmt.Errorf("reading a revision: %w", err)
	case !ok:
		return r, refuse(ErrNotFound, fmt.Sprintf("The policy has no version %d.", version), nil, "version")
	}
	if !author.IsZero() {
		r.Author = &author
	}
	if r.Rules, err = casbin.ReadCSV(strings.NewReader(rows)); err != nil {
		return r, fmt.Errorf("reading revision %d: %w", version, err)
	}
	r.Duties, err = decodeDuties(duties)
	return r, err
}
