package record

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/store"

	"github.com/lethe-crm/lethe/internal/gid"
)

// phoneColumn is the column of a main phone number, in the form it was written in.
const phoneColumn = "phone"

// twin is the older record that another repeats, and the field they share.
type twin struct {
	of    gid.ID
	field string
}

// twins finds the live records of a type that share an e-mail address, a phone
// number or a domain with an older live one, which is none itself. Values are
// compared folded, numbers as E.164: a national number is nobody's twin.
func (s *Service) twins(ctx context.Context, q store.Querier, tenant gid.ID, typ *ent.RecordType) (map[gid.ID]twin, error) {
	columns, fields := []string{}, []string{}
	for _, u := range typ.Uniques {
		columns, fields = append(columns, u.Key), append(fields, u.GraphQL)
	}
	if slices.Contains(typ.Columns, phoneColumn) {
		columns, fields = append(columns, phoneColumn), append(fields, phoneColumn)
	}
	t := sql.Dialect(q.Dialect()).Table(typ.Table)
	sel := sql.Dialect(q.Dialect()).Select(t.C("id")).From(t)
	var some []*sql.Predicate
	for _, c := range columns {
		sel.AppendSelect(t.C(c))
		some = append(some, sql.NotNull(t.C(c)))
	}
	sel.Where(sql.And(sql.EQ(t.C("tenant_id"), tenant), sql.IsNull(t.C("retired_at")), sql.Or(some...))).OrderBy(t.C("created_at"), t.C("id"))
	out := map[gid.ID]twin{}
	oldest := map[[2]string]gid.ID{}
	err := store.Select(ctx, q, sel, func(row store.Row) error {
		var id gid.ID
		values := make([]*string, len(columns))
		dest := []any{&id}
		for i := range values {
			dest = append(dest, &values[i])
		}
		if err := row.Scan(dest...); err != nil {
			return err
		}
		var keys [][2]string
		for i, v := range values {
			if v == nil {
				continue
			}
			key := [2]string{fields[i], *v}
			if columns[i] == phoneColumn {
				number, ok := mixin.Phone(*v)
				if !ok {
					continue
				}
				key[1] = number
			}
			if of, ok := oldest[key]; ok {
				out[id] = twin{of, fields[i]}
				return nil
			}
			keys = append(keys, key)
		}
		for _, key := range keys {
			oldest[key] = id
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for duplicates among %s: %w", typ.Table, err)
	}
	return out, nil
}
