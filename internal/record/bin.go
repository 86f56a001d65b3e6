package record

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect/sql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// Bin is the recycle bin, or the part of it that its fields let through.
type Bin struct {
	// Types are the names of record types; nil is all.
	Types []string
	// DeletedBy is who put the records there.
	DeletedBy *gid.ID
	// DeletedFrom and DeletedBefore are when they were put there.
	DeletedFrom, DeletedBefore *time.Time
	// PurgeBefore is by when their clock has run out.
	PurgeBefore *time.Time
	// Owner is who is responsible for them.
	Owner *gid.ID
	// Operation is what put them there.
	Operation *gid.ID
}

// topOfBin lets through records that are not below another that is still in the
// bin by the same operation.
var topOfBin = func() string {
	var above []string
	for _, t := range ent.RecordTypes {
		above = append(above, fmt.Sprintf(`EXISTS (SELECT 1 FROM %q p WHERE p.id = i.came_with AND p.operation_id = i.operation_id)`, t.Table))
	}
	return `NOT EXISTS (SELECT 1 FROM operation_items i WHERE i.record_id = %[1]s AND i.operation_id = %[2]s AND i.outcome = 'CHANGED'
		AND i.came_with IS NOT NULL AND (` + strings.Join(above, " OR ") + `))`
}()

// Has reports whether records of the type are looked for at all.
func (b Bin) Has(t *ent.RecordType) bool { return b.Types == nil || slices.Contains(b.Types, t.Name) }

// Where narrows a query over one type to what stands in the bin by itself; its
// tree is below it.
func (b Bin) Where(s *sql.Selector) {
	s.Where(sql.EQ(s.C("state"), string(lifecycle.Deleted)))
	if b.DeletedBy != nil {
		s.Where(sql.EQ(s.C("state_changed_by_id"), *b.DeletedBy))
	}
	if b.DeletedFrom != nil {
		s.Where(sql.GTE(s.C("state_changed_at"), *b.DeletedFrom))
	}
	if b.DeletedBefore != nil {
		s.Where(sql.LT(s.C("state_changed_at"), *b.DeletedBefore))
	}
	if b.PurgeBefore != nil {
		s.Where(sql.LT(s.C("purge_after"), *b.PurgeBefore))
	}
	if b.Owner != nil {
		s.Where(sql.EQ(s.C("owner_id"), *b.Owner))
	}
	if b.Operation != nil {
		s.Where(sql.EQ(s.C("operation_id"), *b.Operation))
	}
	s.Where(sql.ExprP(fmt.Sprintf(topOfBin, s.C("id"), s.C("operation_id"))))
}
