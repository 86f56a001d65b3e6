package importer

// Outcome is what became of one mail or row.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "CREATED"
	Duplicate Outcome = "DUPLICATE" // a live record, or an earlier item, is the same
	InBin     Outcome = "IN_BIN"    // the same record is deleted or voided; an import never revives it
	Failed    Outcome = "FAILED"
)

// Unreadable is the code of what could not be read; other codes are those of
// the API.
const Unreadable = "UNREADABLE"

// MaxItems is how many of the items that failed, and how many of all others
// worth a line, a report holds.
const MaxItems = 1_000

// Report says what an import did. Read is the sum of the four outcomes.
type Report struct {
	DryRun    bool `json:"dryRun"`
	Read      int  `json:"read"`
	Created   int  `json:"created"`
	Duplicate int  `json:"duplicate"`
	InBin     int  `json:"inBin"`
	Failed    int  `json:"failed"`
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
	case Failed:
		r.Failed++
		if item.Code == Unreadable {
			r.unreadable++
		}
	}
	if item.Outcome == Created && len(item.Warnings) == 0 {
		return
	}
	kept := r.others
	if item.Outcome == Failed {
		kept = len(r.Items) - r.others
	}
	if kept >= MaxItems {
		r.Omitted++
		return
	}
	if item.Outcome != Failed {
		r.others++
	}
	r.Items = append(r.Items, item)
}
