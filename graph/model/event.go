package model

import (
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// RecordEvent is a change of a record.
type RecordEvent struct {
	At        time.Time
	Action    RecordChange
	RecordID  gid.ID
	Type      ent.RecordKind
	Record    ent.Record // nil where the reader may not see it
	From, To  *lifecycle.State
	Version   *int
	Operation *ent.Operation // nil where the reader may not see it
}
