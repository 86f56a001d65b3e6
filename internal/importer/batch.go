package importer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

const (
	// batchRows is how many items are written in one transaction, unless
	// batchBytes of text are reached before.
	batchRows  = 500
	batchBytes = 8 << 20
	// batchFiles is how many bytes of files make a batch full, too.
	batchFiles = 64 << 20
	// maxWaves is how many replies to replies one transaction creates, one
	// after another, because a message can only answer one that is there.
	// Deeper ones wait for the next transaction.
	maxWaves = 16
	// attempts is how often a batch is tried that others are in the way of.
	attempts = 3
)

// row is one item on its way to becoming a record.
type row struct {
	item     ReportItem
	given    record.Values     // as read
	owner    string            // folded address of a user; the values hold ownerID otherwise
	warnings []string          // what was guessed or cut when it was read
	refs     map[string]string // names of records and users, by field
	size     int               // bytes of text
	held     int               // bytes of files
	files    []*file           // of mail
	marked   bool              // as deleted
	filed    bool              // it is decided which of them are kept

	// Of a row of an export: the record that it was, and how else than by their ids
	// its references are found.
	exported bool
	was      gid.ID
	beside   map[string]string

	// Of mail, with addresses folded:
	sender     string
	recipients []string
	replyTo    string
	sentAt     string // where the time came from

	// What a batch finds out, anew with every attempt.
	values            record.Values // as given, and what was linked
	parent            *row          // of the same batch, to be created first
	created           ent.Record
	twin              gid.ID            // the live record that a marked duplicate is a duplicate of
	ownerRef, teamRef *gid.ID           // of the customer it belongs to
	alike             string            // what it says, where it has no key of its own
	found             map[string]string // names of references whose ids are gone
}

func (i *ReportItem) fail(code, reason string) { i.Outcome, i.Code, i.Reason = Failed, code, reason }

func (row *row) reset() {
	row.item.Outcome, row.item.Code, row.item.Reason, row.item.Attachments, row.item.AttachmentsFailed = "", "", "", 0, 0
	row.values, row.parent, row.created, row.ownerRef, row.teamRef, row.alike, row.found = maps.Clone(row.given), nil, nil, nil, nil, "", nil
	row.twin = gid.Nil
	row.item.Warnings = slices.Clone(row.warnings)
}

// pending reports whether it is still to be created.
func (row *row) pending() bool { return row.item.Outcome == "" }

// key is the folded value that no two live records share, "" without one.
func (row *row) key(u ent.RecordUnique) string {
	text, _ := row.given[u.GraphQL].(string)
	return record.Fold(text, u.Fold)
}

// scoped is the key with what it is unique within behind it, "" as long as that
// is not known.
func (row *row) scoped(t *ent.RecordType, u ent.RecordUnique) string {
	key := row.key(u)
	if key == "" || u.Within == "" {
		return key
	}
	of, known := row.column(t, u.Within).(gid.ID)
	if !known {
		return ""
	}
	return key + " " + of.UUID()
}

func (row *row) number() string {
	of := row.given
	if row.exported && row.values != nil { // which may have lost it
		of = row.values
	}
	number, _ := of["number"].(string)
	return number
}

// named is what a row names by a field as people do.
func (row *row) named(field string) string {
	if text := row.found[field]; text != "" {
		return text
	}
	return row.refs[field]
}

// add puts a row into the batch and writes the batch when it is full.
func (r *run) add(ctx context.Context, row *row) error {
	r.batch = append(r.batch, row)
	r.bytes, r.held = r.bytes+row.size, r.held+row.held
	if len(r.batch) < batchRows && r.bytes < batchBytes && r.held < batchFiles {
		return nil
	}
	return r.flush(ctx)
}

// flush writes the batch, to its end once it has begun. Rows that wait for the next
// transaction stay in it.
func (r *run) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := r.keepFiles(ctx, r.batch); err != nil {
		return err
	}
	rest, err := r.write(ctx, r.batch)
	if err != nil {
		return err
	}
	if err := r.forsakeFiles(ctx, r.batch); err != nil {
		return err
	}
	r.batch, r.bytes, r.held = rest, 0, 0
	for _, row := range rest {
		r.bytes += row.size
	}
	r.tell()
	return r.analyze(ctx)
}

// analyze tells the database each time that the rows created since the start
// have doubled. The tables are those that are written and looked into.
func (r *run) analyze(ctx context.Context) error {
	if r.DryRun || r.report.Created < max(batchRows, 2*r.analyzed) {
		return nil
	}
	r.analyzed = r.report.Created
	tables := []string{r.typ.Table, "record_numbers"}
	for _, e := range r.typ.Edges {
		if table := ent.RecordTypeNamed(e.Target).Table; !slices.Contains(tables, table) {
			tables = append(tables, table)
		}
	}
	return r.DB.Analyze(ctx, r.analyzed, tables...)
}

// errDryRun rolls a transaction back in which all went well.
var errDryRun = errors.New("dry run")

// write writes rows in one transaction, takes down what became of them and
// answers those that must wait for another. Where one row spoils the
// transaction for all, the halves are written by themselves.
func (r *run) write(ctx context.Context, rows []*row) (rest []*row, err error) {
	for try := 1; ; try++ {
		rest, err = r.attempt(ctx, rows)
		if err == nil || try == attempts || !store.Busy(err) {
			break
		}
	}
	refused := refusal(err)
	switch {
	case refused != nil && len(rows) == 1:
		rows[0].refuse(refused)
	case refused != nil:
		middle := len(rows) / 2
		first, err := r.write(ctx, rows[:middle])
		if err != nil {
			return nil, err
		}
		second, err := r.write(ctx, rows[middle:])
		return slices.Concat(first, second), err
	case err != nil:
		return nil, fmt.Errorf("writing %s: %w", r.As, err)
	}
	for _, row := range rows {
		if !row.pending() {
			r.done(row)
		}
	}
	return rest, nil
}

// refusal is what an error says about the records that were to be written, nil
// when it is about something else.
func refusal(err error) *record.Error {
	if refused, ok := errors.AsType[*record.Error](err); ok {
		return refused
	}
	if broken, ok := store.Constraint(err); ok {
		return record.Refuse(lifecycle.BadUserInput, "the database refuses the record: "+broken.Columns)
	}
	return nil
}

// done takes down what became of a row.
func (r *run) done(row *row) {
	if row.item.Outcome == Created {
		if row.sentAt != "" {
			r.report.SentAt[row.sentAt]++
		}
		if r.DryRun {
			for _, key := range row.seenAs(r.typ) {
				r.seen[key] = row.marked
			}
		}
	}
	r.mark(row)
	r.report.add(row.item)
}

func (r *run) attempt(ctx context.Context, rows []*row) (rest []*row, err error) {
	err = r.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		ctx, err := r.Control.Pin(ctx, r.actor.Tenant)
		if err != nil {
			return fmt.Errorf("reading the policy: %w", err)
		}
		ctx = visible.With(ctx, r.Control.Rows(ctx, r.actor))
		for _, row := range rows {
			row.reset()
		}
		if err := r.leaveOutExported(ctx, tx, rows); err != nil {
			return err
		}
		if err := r.leaveOutTwins(ctx, tx, rows, false); err != nil {
			return err
		}
		if err := r.link(ctx, tx, rows); err != nil {
			return err
		}
		if err := r.leaveOutTwins(ctx, tx, rows, true); err != nil {
			return err
		}
		if err := r.leaveOutAlike(ctx, rows); err != nil {
			return err
		}
		forbidden := r.authorize(ctx, rows)
		if rest, err = r.create(ctx, rows); err != nil {
			return err
		}
		if err := r.attach(ctx, tx, rows); err != nil {
			return err
		}
		if err := r.findMarked(ctx, tx, rows); err != nil {
			return err
		}
		tx.AfterEnd(func(committed bool) {
			if committed {
				r.forbidden += forbidden
			}
		})
		if r.DryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return rest, err
}

// authorize refuses the rows whose records the actor may not import, and those
// marked as deleted that he may not delete: left alive they would be what the
// table says they are not. Whether he may create them is asked where they are
// created; a dry run asks here, since only what was really attempted belongs into
// the audit log.
func (r *run) authorize(ctx context.Context, rows []*row) (forbidden int) {
	actions := []authz.Action{authz.Import, authz.Delete}
	if r.DryRun {
		actions = append(actions, authz.Create)
	}
	for _, action := range actions {
		var asked []*row
		var questions []access.Question
		for _, row := range rows {
			if row.pending() && (row.marked || action != authz.Delete) {
				asked = append(asked, row)
				questions = append(questions, access.Question{Action: action, Type: r.typ.Name, Props: r.props(row)})
			}
		}
		for i, answer := range r.Control.Decide(ctx, r.actor, questions) {
			switch {
			case answer.Permit:
			case answer.Unavailable:
				asked[i].item.fail(string(lifecycle.AuthzUnavailable), "access could not be decided; try again")
			default:
				asked[i].item.fail(string(lifecycle.Forbidden), refusals[action])
				forbidden++
			}
		}
	}
	return forbidden
}

// refusals say what the policy does not allow.
var refusals = map[authz.Action]string{
	authz.Import: "the policy does not allow this", authz.Create: "the policy does not allow this", authz.Delete: "the policy does not allow deleting it, as it is marked",
}

// props are the attributes of the record that a row would become.
func (r *run) props(row *row) map[string]any {
	owner, team := row.ownerRef, row.teamRef
	if row.values["customerID"] == nil || row.ownerRef == nil && row.teamRef == nil {
		owner, team = r.actor.UserRef(), r.actor.FirstTeam()
	}
	return access.Props(r.typ, func(column string) any {
		for _, f := range r.typ.Fields {
			if v := row.values[f.GraphQL]; f.Name == column && v != nil {
				return v
			}
		}
		switch column {
		case "state":
			return string(lifecycle.Active)
		case "owner_id":
			return owner
		case "team_id":
			return team
		}
		return nil
	})
}

// create makes the records, those that others answer first.
func (r *run) create(ctx context.Context, rows []*row) (rest []*row, err error) {
	for wave := 0; ; wave++ {
		var ready, waiting []*row
		for _, row := range rows {
			switch {
			case !row.pending():
			case row.parent != nil && row.parent.pending():
				waiting = append(waiting, row)
			default:
				ready = append(ready, row)
			}
		}
		if len(ready) == 0 || wave == maxWaves {
			return slices.Concat(ready, waiting), nil
		}
		if err := r.createMany(ctx, ready); err != nil {
			return nil, err
		}
	}
}

func (r *run) createMany(ctx context.Context, rows []*row) error {
	values := make([]record.Values, len(rows))
	for i, row := range rows {
		if row.parent != nil && row.parent.created != nil {
			row.values["inReplyToID"] = row.parent.created.RecordID()
		}
		values[i] = row.values
	}
	records, refusals, err := r.Records.CreateMany(ctx, r.typ.Name, values)
	if err != nil {
		return err
	}
	numbers := map[string]bool{}
	for i, row := range rows {
		refused, ok := errors.AsType[*record.Error](refusals[i])
		switch {
		case refusals[i] == nil:
			row.created, row.item.Outcome = records[i], Created
			numbers[row.number()] = true
		case !ok:
			return refusals[i]
		default:
			row.refuse(refused)
			// A number is also taken by what was purged; that is no twin.
			if refused.Code == lifecycle.UniqueConflict && slices.Contains(refused.Fields, "number") && !numbers[row.number()] {
				row.item.fail(string(refused.Code), reason(refused))
			}
		}
	}
	return nil
}

// refuse takes down a refusal. That another record has the value of a field
// that is unique is what makes a row a duplicate.
func (row *row) refuse(e *record.Error) {
	row.item.fail(string(e.Code), reason(e))
	if e.Code == lifecycle.UniqueConflict {
		row.item.Outcome = Duplicate
	}
}

// seen are the hashes of the unique values of rows that a dry run would have
// created, 8 bytes each, so that memory stays bounded for any file; and whether
// they would have been deleted again.
type seen map[uint64]bool

func (s seen) has(column, key string) bool {
	_, has := s[hash(column, key)]
	return has
}

var hashSeed = maphash.MakeSeed()

func hash(column, key string) uint64 { return maphash.String(hashSeed, column+"\x00"+key) }

// seenAs are the hashes of the values by which a row is known again.
func (row *row) seenAs(t *ent.RecordType) (out []uint64) {
	for _, u := range t.Uniques {
		if key := row.scoped(t, u); key != "" {
			out = append(out, hash(u.Key, key))
		}
	}
	if number := row.number(); number != "" {
		out = append(out, hash("number", number))
	}
	if row.alike != "" {
		out = append(out, hash("alike", row.alike))
	}
	return out
}
