package importer

import "github.com/lethe-crm/lethe/internal/lifecycle"

// Outcome is what became of one mail or row.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "CREATED"
	Duplicate Outcome = "DUPLICATE" // a live record, or an earlier item, is the same
	InBin     Outcome = "IN_BIN"    // the same record is deleted or voided; an import never revives it
	Failed    Outcome = "FAILED"
	// Unchanged is a row that is marked as deleted, and whose record is deleted or
	// voided.
	Unchanged Outcome = "UNCHANGED"
	// NotDeleted is no outcome of the import of a row, but of the deletion behind it.
	NotDeleted Outcome = "NOT_DELETED"
)

// Unreadable is the code of what could not be read; other codes are those of
// the API.
const Unreadable = "UNREADABLE"

// MaxItems is how many of the items that failed, and how many of all others
// worth a line, a report holds.
const MaxItems = 1_000

// Report says what an import did. Read is the sum of the outcomes but of
// NotDeleted.
type Report struct {
	DryRun    bool `json:"dryRun"`
	Read      int  `json:"read"`
	Created   int  `json:"created"`
	Duplicate int  `json:"duplicate"`
	InBin     int  `json:"inBin"`
	Failed    int  `json:"failed"`
	Unchanged int  `json:"unchanged"`
	// Deleted counts the records that were deleted because rows are marked so, and
	// NotDeleted the marked rows of which the live record was refused.
	Deleted    int `json:"deleted"`
	NotDeleted int `json:"notDeleted"`
	// Deletions are the operations that did it: one, but for more than a million rows.
	Deletions []Deletion `json:"deletions,omitempty"`
	// Attachments counts the attachments of mail that were kept: those of created
	// messages, and AttachmentsAdded to messages that were there without them.
	Attachments      int `json:"attachments"`
	AttachmentsAdded int `json:"attachmentsAdded"`
	// AttachmentsFailed counts those that were refused; the warnings say why.
	AttachmentsFailed int `json:"attachmentsFailed"`
	// Ignored counts files in a folder that are no mail by their names.
	Ignored int `json:"ignored"`
	// SentAt counts the created messages by where their time came from.
	SentAt map[string]int `json:"sentAt,omitempty"`
	// UnusedColumns are the columns of a table that fill no field, where there is
	// no mapping that would say so.
	UnusedColumns []string `json:"unusedColumns,omitempty"`
	// Items are those that were not created, and those created otherwise than
	// they were stored, in the order in which they were done with.
	Items []ReportItem `json:"items"`
	// Omitted counts the items left out because of MaxItems.
	Omitted int `json:"omitted"`

	others     int // of Items, those that did not fail
	unreadable int
}

// Deletion is the operation that deletes what rows are marked as.
type Deletion struct {
	Operation string `json:"operation"`
	Status    string `json:"status"`
	// Waiting is how many records it has not dealt with, because somebody else must
	// agree first.
	Waiting int `json:"waiting,omitempty"`
}

// Counts say how far an import has come.
type Counts struct {
	Processed int `json:"processed"`
	Created   int `json:"created"`
	Found     int `json:"found"` // there already, live or in the bin
	Failed    int `json:"failed"`
	Deleted   int `json:"deleted"`
}

// Counts are those of the report.
func (r *Report) Counts() Counts {
	return Counts{r.Read, r.Created, r.Duplicate + r.InBin + r.Unchanged, r.Failed + r.NotDeleted, r.Deleted}
}

// ReportItem is one mail or row.
type ReportItem struct {
	Name    string  `json:"name,omitempty"` // of a mail
	Line    int     `json:"line,omitempty"` // of a row
	Outcome Outcome `json:"outcome"`
	Code    string  `json:"code,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	// Attachments and AttachmentsFailed count those of the mail that were kept and
	// refused.
	Attachments       int `json:"attachments,omitempty"`
	AttachmentsFailed int `json:"attachmentsFailed,omitempty"`
	// Warnings say what was guessed, cut or dropped.
	Warnings []string `json:"warnings,omitempty"`
}

func (r *Report) add(item ReportItem) {
	r.Read++
	r.Attachments += item.Attachments
	r.AttachmentsFailed += item.AttachmentsFailed
	switch item.Outcome {
	case Created:
		r.Created++
	case Duplicate:
		r.Duplicate++
		r.AttachmentsAdded += item.Attachments
	case InBin:
		r.InBin++
	case Unchanged:
		r.Unchanged++
	case Failed:
		r.Failed++
		if item.Code == Unreadable {
			r.unreadable++
		}
	}
	if item.Outcome == Created && len(item.Warnings) == 0 {
		return
	}
	r.keep(item)
}

// addUndeleted takes down why the record of a marked row is live still.
func (r *Report) addUndeleted(line int, code lifecycle.Code, reason string) {
	r.NotDeleted++
	r.keep(ReportItem{Line: line, Outcome: NotDeleted, Code: string(code), Reason: reason})
}

// keep lists an item, as far as there is room.
func (r *Report) keep(item ReportItem) {
	failed := item.Outcome == Failed || item.Outcome == NotDeleted
	kept := r.others
	if failed {
		kept = len(r.Items) - r.others
	}
	if kept >= MaxItems {
		r.Omitted++
		return
	}
	if !failed {
		r.others++
	}
	r.Items = append(r.Items, item)
}
