// Package record is the only code that moves a record through its life. One
// pipeline serves every verb and every caller: select, authorize, guard, apply,
// audit; create and update go through the same guards.
package record

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"entgo.io/ent/dialect/sql"
	"golang.org/x/sync/semaphore"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/audit"
	"github.com/lethe-crm/lethe/internal/blob"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// MaxRows is how many records, those that come along included, one operation
// may be about.
const MaxRows = 1_000

// Service applies the verbs.
type Service struct {
	db      *store.DB
	control *access.Control
	audit   *audit.Log
	log     *slog.Logger
	numbers numbers
	queue   Queue        // nil leaves jobs to TakeUp
	blobs   *blob.Bucket // nil leaves what is purged to the sweeper
	sizes   sizes
	indexed atomic.Bool // all records are found by their words; once they are, they stay so
	// forgotten is when the last record was purged whose words SQLite's file has no more.
	forgotten time.Time
	// actAs lets others act for what they asked for, approvables are what is asked for besides operations, and onBrake is
	// told of every cap that an operation came over; onEnd and onChange of what was committed.
	actAs       ActAs
	approvables map[approval.Subject]Approvable
	onBrake     func(name string)
	onEnd       func(verb lifecycle.Verb, status string)
	onChange    func(verb lifecycle.Verb, typ string, records int)
	reader      func() *ent.Client // reads outside of transactions
	// Previews have room of their own: they hold neither locks nor connections
	// for long, and need not wait for operations.
	room, previewRoom *semaphore.Weighted
}

// New returns a service over a database.
func New(db *store.DB, control *access.Control, log *audit.Log, logger *slog.Logger) *Service {
	s := &Service{db: db, control: control, audit: log, log: logger, numbers: numbers{blocks: map[string]block{}}, sizes: usual}
	s.approvables = map[approval.Subject]Approvable{approval.SubjectHOLD_RELEASE: holdRelease{s}, approval.SubjectSHORTEN_RETENTION: shortening{s}}
	s.room, s.previewRoom = semaphore.NewWeighted(room), semaphore.NewWeighted(room)
	s.reader = sync.OnceValue(func() *ent.Client { return s.newClient(db.Driver()) })
	return s
}

// Request asks for an operation.
type Request struct {
	Verb   lifecycle.Verb
	Select Selection
	// States narrows a filter to records in these states.
	States []lifecycle.State
	Reason string
	// Mode is ALL_OR_NOTHING or BEST_EFFORT; empty is ALL_OR_NOTHING.
	Mode          string
	ExpectedCount *int
	// PreviewToken is that of a preview of the same request: it stands in for
	// ExpectedCount, and insists that the selection is still the one previewed.
	PreviewToken string
	// IdempotencyKey, with Payload, makes repeating the request safe. Payload is
	// the request as given, canonical JSON without key and token.
	IdempotencyKey string
	Payload        json.RawMessage
	// Bound is the part of the payload that a preview's token is bound to.
	// Nil is all of it.
	Bound json.RawMessage

	Cascade       bool                         // delete, void
	IncludeLive   bool                         // purge: live records too, which are deleted first
	DuplicateOf   *gid.ID                      // void
	Overrides     map[gid.ID]map[string]string // restore: by record and GraphQL field name
	WithAncestors bool                         // restore
	NewParentID   *gid.ID                      // restore
	// RunAt puts the operation off: the selection is frozen, and all else is decided then.
	RunAt *time.Time

	// Import says that an import asks; nil is anybody else.
	Import *Import

	Until *time.Time // suspend: when it ends
	Then  string     // suspend: what becomes of it then; empty is ThenRestore
}

// Import is what an import says of the records that it names. It may name
// MaxPicks of them: no client has to send them.
type Import struct {
	// Created is how many of them it created itself. The brake does not count
	// these: they were never there before.
	Created int
}

// Selection says which records; exactly one field is set.
type Selection struct {
	IDs      []gid.ID
	Versions []Version
	Filter   *Filter
	// Bin selects the tops of the recycle bin; their trees go with them.
	Bin *Bin
	// Operation selects what that operation changed.
	Operation *gid.ID
}

// Version is a record as the caller saw it.
type Version struct {
	ID      gid.ID
	Version int
}

// Filter selects the records of one type that match.
type Filter struct {
	Type string
	// Where narrows the query; it comes from a where-input.
	Where func(*sql.Selector)
	// Comparisons counts the leaf comparisons in the where-input. A filter
	// without any would select everything.
	Comparisons int
	// Text is the filter as it is kept, if ParseFilter read it.
	Text json.RawMessage
	// own says that such a filter compares fields of the records themselves alone.
	own bool
	// searches says that it finds records by their words, of whatever type.
	searches bool
}

// Values are the fields of a create or an update, by GraphQL name. A value of
// nil clears the field. Parts, such as recipients, are []map[string]any.
type Values map[string]any

// Error is a refusal as the API shows it.
type Error struct {
	Code    lifecycle.Code
	Message string
	// Fields are the input fields it is about.
	Fields []string
	// Extensions are further particulars: expected, actual, state, version.
	Extensions map[string]any
}

func (e *Error) Error() string {
	if len(e.Fields) == 0 {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s: %s", e.Code, strings.Join(e.Fields, ", "), e.Message)
}

// Refuse makes an Error.
func Refuse(code lifecycle.Code, message string, fields ...string) *Error {
	return &Error{Code: code, Message: message, Fields: fields}
}
