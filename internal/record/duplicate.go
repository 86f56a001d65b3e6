package record

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
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
// compared folded, numbers as E.164: a national number is nobody's twin. The
// database finds what is there more than once, so that nothing else is read.
func (s *Service) twins(ctx context.Context, q store.Querier, tenant gid.ID, typ *ent.RecordType) (map[gid.ID]twin, error) {
	columns, fields := []string{}, []string{}
	for _, u := range typ.Uniques {
		columns, fields = append(columns, u.Key), append(fields, u.GraphQL)
	}
	if slices.Contains(typ.Columns, phoneColumn) {
		columns, fields = append(columns, phoneColumn), append(fields, phoneColumn)
	}
	live := typ.Table + ` WHERE tenant_id = ? AND retired_at IS NULL`
	stmt := store.Build(q).Add(`SELECT id, `+strings.Join(columns, ", ")+` FROM `+live+` AND (`, tenant)
	for i, c := range columns {
		if i > 0 {
			stmt.Add(` OR `)
		}
		key := c
		if c == phoneColumn {
			key = dialled
		}
		stmt.Add(key+` IN (SELECT `+key+` FROM `+live+` AND `+c+` IS NOT NULL GROUP BY `+key+` HAVING COUNT(*) > 1)`, tenant)
	}
	out := map[gid.ID]twin{}
	oldest := map[[2]string]gid.ID{}
	err := stmt.Add(`) ORDER BY created_at, id`).Query(ctx, q, func(row store.Row) error {
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

// dialled is an expression for a phone number as mixin.Phone has it, whether or not
// it is one.
var dialled = func() string {
	digits := phoneColumn
	for _, mark := range mixin.PhoneMarks() {
		digits = `REPLACE(` + digits + `, '` + mark + `', '')`
	}
	return `CASE WHEN ` + digits + ` LIKE '00%' THEN '+' || substr(` + digits + `, 3) ELSE ` + digits + ` END`
}()
