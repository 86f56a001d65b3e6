package entgen

import (
	"slices"
	"strings"

	"entgo.io/ent/entc/gen"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/lethe-crm/lethe/internal/lifecycle"
)

// descriptions are those of types and enum values that the entities cannot say
// themselves.
var descriptions = map[string]string{
	"Query":           "What can be read.",
	"User":            "A person who may sign in.",
	"Team":            "A group of users who share records.",
	"Customer":        "A person or company one does business with.",
	"Contact":         "A person at a customer.",
	"Deal":            "Business under way or done with a customer.",
	"Message":         "An e-mail, chat line, text message or letter.",
	"Recipient":       "An address a message went to.",
	"Call":            "A phone call.",
	"Task":            "Something to be done for a customer.",
	"Note":            "What somebody wrote down about a customer.",
	"Attachment":      "A file that belongs to exactly one other record.",
	"LegalHold":       "A legal matter whose records must not be lost. It stays once it is released.",
	"Export":          "A file of the records of one type, with what its requester may read of them. Its manifest stays when its bytes go.",
	"ExportSchedule":  "Asks for an export again and again, in the name of who made it.",
	"RetentionRule":   "How long records of a type are kept, or what becomes of them by their age. It stays once it is removed.",
	"Approval":        "A request for others to agree to something, which is kept as it was asked for.",
	"Operation":       "One use of a verb over any number of records; it is what one undoes and follows.",
	"OperationItem":   "What became of one record in one operation.",
	"AuditEvent":      "Something that happened, or was refused.",
	"PolicyRevision":  "A tenant's policy as one change left it.",
	"Notification":    "What one user is told of. It is shown while he may read what it is about.",
	"Webhook":         "An address of another application that is told what happens.",
	"WebhookDelivery": "One event on its way to a webhook. It is sent until it is taken, under one id.",
	"Department":      "People who want to be told of some kinds of events, whoever owns the records.",
	"AlertRule":       "What is unusual enough for somebody to be told at once.",

	"NotificationKind.DELETED":            "Records were put into the bin.",
	"NotificationKind.VOIDED":             "Records were declared void.",
	"NotificationKind.RESTORED":           "Records were brought back.",
	"NotificationKind.ARCHIVED":           "Records were archived. Departments and webhooks only.",
	"NotificationKind.SUSPENDED":          "Records were suspended. Departments and webhooks only.",
	"NotificationKind.PURGED":             "Records were removed for good. Webhooks only: there is nothing left to show.",
	"NotificationKind.WILL_BE_PURGED":     "The clock of records in the bin runs out in a week, or in a day.",
	"NotificationKind.HOLD_PLACED":        "A legal hold was placed on records. For who may know of it.",
	"NotificationKind.HOLD_RELEASED":      "A legal hold was released. For who may know of it.",
	"NotificationKind.APPROVAL_ASKED":     "Somebody asks for agreement.",
	"NotificationKind.APPROVAL_DECIDED":   "What was asked for was agreed to, rejected, or not decided in time.",
	"NotificationKind.OPERATION_FINISHED": "An operation ended that had been left to run in the background or at a later time.",
	"NotificationKind.BRAKE_PULLED":       "An operation came over a cap and was stopped.",
	"NotificationKind.PURGE_FAILED":       "A purge ended and some of its records could not go.",
	"NotificationKind.ALERT":              "An alert rule found something unusual.",
	"NotificationKind.WEBHOOK_DISABLED":   "A webhook failed for too long, or said that it is gone, and is sent nothing any more.",

	"WebhookDeliveryStatus.PENDING":   "It is to be sent, or sent again.",
	"WebhookDeliveryStatus.DELIVERED": "The receiver took it.",
	"WebhookDeliveryStatus.FAILED":    "It was not sent: its webhook is disabled. Replay it to send it after all.",
	"WebhookDeliveryStatus.DEAD":      "It was tried as often as it is, and not taken.",

	"AlertKind.DELETIONS_PER_ACTOR": "Somebody deletes, voids or purges many records in a short time.",
	"AlertKind.OUT_OF_HOURS":        "Somebody uses a verb outside of working hours.",
	"AlertKind.DENIALS":             "Somebody is refused many times in a short time.",
	"AlertKind.PURGE_FAILED":        "A purge could not remove some of its records.",

	"AuditOutcome.SUCCEEDED": "It happened.",
	"AuditOutcome.REFUSED":   "It was not allowed.",
	"AuditOutcome.FAILED":    "It was allowed and could not be done.",

	"CustomerKind.COMPANY":    "A company or another organisation.",
	"CustomerKind.PERSON":     "A person.",
	"CustomerStatus.LEAD":     "Someone who might become a customer.",
	"CustomerStatus.PROSPECT": "Someone one is talking with.",
	"CustomerStatus.CUSTOMER": "Someone one does business with.",
	"CustomerStatus.FORMER":   "Someone one did business with.",

	"DealStage.QUALIFICATION": "Whether there is a deal is being found out.",
	"DealStage.PROPOSAL":      "An offer was made.",
	"DealStage.NEGOTIATION":   "Terms are being talked about.",
	"DealStage.WON":           "It was agreed.",
	"DealStage.LOST":          "It will not come about.",

	"MessageCategory.NORMAL":       "Written to someone.",
	"MessageCategory.SPAM":         "Unasked for.",
	"MessageCategory.MAILING":      "Sent to many at once.",
	"MessageChannel.EMAIL":         "E-mail.",
	"MessageChannel.CHAT":          "A chat.",
	"MessageChannel.SMS":           "A text message.",
	"MessageChannel.LETTER":        "A letter on paper.",
	"MessageChannel.OTHER":         "Another way.",
	"MessageDirection.INBOUND":     "It came in.",
	"MessageDirection.OUTBOUND":    "It went out.",
	"CallDirection.INBOUND":        "It came in.",
	"CallDirection.OUTBOUND":       "It went out.",
	"CallOutcome.ANSWERED":         "Somebody answered.",
	"CallOutcome.MISSED":           "Nobody answered.",
	"CallOutcome.BUSY":             "The line was busy.",
	"CallOutcome.VOICEMAIL":        "A message was left.",
	"CallOutcome.FAILED":           "It could not be put through.",
	"NoteKind.NOTE":                "A remark.",
	"NoteKind.MEETING":             "Minutes of a meeting.",
	"NoteKind.VISIT":               "A report of a visit.",
	"NoteKind.OTHER":               "Something else.",
	"RecipientKind.TO":             "Addressed to.",
	"RecipientKind.CC":             "In copy, for all to see.",
	"RecipientKind.BCC":            "In copy, unseen by the others.",
	"ItemOutcome.CHANGED":          "The record changed.",
	"ItemOutcome.UNCHANGED":        "The record was there already.",
	"ItemOutcome.FAILED":           "It was refused.",
	"ItemOutcome.NOT_PROCESSED":    "Nothing was done because another item failed.",
	"OperationMode.BEST_EFFORT":    "What can be done is done.",
	"OperationMode.ALL_OR_NOTHING": "One failure, and nothing changes.",

	"OperationStatus.PENDING_APPROVAL": "It waits for approval.",
	"OperationStatus.APPROVED":         "It was approved and is about to run, or waits for its time or to be confirmed.",
	"OperationStatus.SCHEDULED":        "It waits for its time.",
	"OperationStatus.QUEUED":           "It waits for its turn.",
	"OperationStatus.RUNNING":          "It is under way.",
	"OperationStatus.PAUSED":           "It was stopped and may go on.",
	"OperationStatus.SUCCEEDED":        "It ended, and nothing failed.",
	"OperationStatus.PARTIAL":          "It ended; some records changed and some failed.",
	"OperationStatus.FAILED":           "It ended, and nothing changed.",
	"OperationStatus.REJECTED":         "It was not approved.",
	"OperationStatus.CANCELLED":        "It was called off.",
	"OperationStatus.EXPIRED":          "It was not approved or confirmed in time.",

	"ApprovalExecution.AUTOMATIC": "It is done at once, or when its time has come.",
	"ApprovalExecution.CONFIRM":   "It waits for who asked, or somebody who may do the same, to confirm it.",

	"ApprovalStatus.PENDING":   "It waits for others to agree.",
	"ApprovalStatus.APPROVED":  "Enough agreed; it has not been used yet.",
	"ApprovalStatus.DONE":      "Enough agreed, and it was used.",
	"ApprovalStatus.FAILED":    "Enough agreed, and it could not be done.",
	"ApprovalStatus.REJECTED":  "Somebody said no.",
	"ApprovalStatus.CANCELLED": "It was called off.",
	"ApprovalStatus.EXPIRED":   "It was not decided, or not used, in time.",

	"ExportFormat.CSV":                  "Text with commas, as RFC 4180 has it, in UTF-8. Text that a spreadsheet would take for a formula has an apostrophe in front.",
	"ExportFormat.XLSX":                 "A workbook of one sheet. A cell holds 32,767 characters: what is longer is cut, and the manifest says so.",
	"ExportFormat.JSONL":                "JSON Lines: one object a line.",
	"ExportStatus.PENDING":              "It waits for its turn.",
	"ExportStatus.RUNNING":              "Its file is written.",
	"ExportStatus.SUCCEEDED":            "Its file is there.",
	"ExportStatus.FAILED":               "It could not be made; its code says why.",
	"ExportStatus.CANCELLED":            "Somebody ended it before it was done.",
	"ExportStatus.EXPIRED":              "Its file is gone: its time was over, newer ones of its schedule came, or somebody deleted it.",
	"ApprovalSubject.DELETE":            "Putting records into the bin.",
	"ApprovalSubject.VOID":              "Declaring records void.",
	"ApprovalSubject.ARCHIVE":           "Archiving records.",
	"ApprovalSubject.SUSPEND":           "Suspending records.",
	"ApprovalSubject.PURGE":             "Purging records.",
	"ApprovalSubject.HOLD_RELEASE":      "Releasing a legal hold.",
	"ApprovalSubject.SHORTEN_RETENTION": "Keeping records for a shorter time.",
	"ApprovalSubject.GRANT":             "Giving somebody an action that is restricted.",
	"ApprovalSubject.BRAKE":             "Going on with an operation that the brake has stopped.",
}

// operators are what the end of a filter's name compares. Longer ones first.
var operators = []struct{ suffix, words string }{
	{"HasPrefix", "begins with the value"},
	{"HasSuffix", "ends with the value"},
	{"Contains", "contains the value"},
	{"NotNil", "has a value"},
	{"IsNil", "has no value"},
	{"NotIn", "is none of the values"},
	{"In", "is one of the values"},
	{"NEQ", "is not the value"},
	{"GTE", "is the value or more"},
	{"GT", "is more than the value"},
	{"LTE", "is the value or less"},
	{"LT", "is less than the value"},
}

// describe documents what is left without words.
func describe(g *gen.Graph, s *ast.Schema) {
	for name, def := range s.Types {
		or(&def.Description, descriptions[name])
		for _, v := range def.EnumValues {
			or(&v.Description, descriptions[name+"."+v.Name])
			if strings.HasSuffix(name, "OrderField") {
				or(&v.Description, "By "+words(strings.ToLower(v.Name))+".")
			}
		}
		for _, f := range def.Fields {
			switch {
			case f.Name == "id":
				or(&f.Description, "Its id, unique among all things.")
			case strings.HasSuffix(name, "WhereInput"):
				or(&f.Description, filter(f.Name))
			case strings.HasSuffix(f.Type.Name(), "Connection"):
				or(&f.Description, "A page of its "+words(snake(f.Name))+".")
			}
		}
	}
	for _, n := range g.Nodes {
		describeFolded(n, s.Types[n.Name+"WhereInput"])
		def := s.Types[n.Name]
		if def == nil {
			continue
		}
		for _, e := range n.Edges {
			if f := def.Fields.ForName(camel(e.Name)); f != nil && e.Comment() != "" {
				f.Description = e.Comment()
			}
		}
		if list := s.Types["Query"].Fields.ForName(camel(snake(plural(n.Name)))); list != nil {
			list.Description = "A page of " + words(snake(plural(n.Name))) + "."
		}
	}
}

// describeFolded says of the filters that the template gql_where_input answers by
// a folded column that they are not letter for letter.
func describeFolded(n *gen.Type, where *ast.Definition) {
	if where == nil {
		return
	}
	for _, f := range n.Fields {
		if !isFolded(n, f.Name) {
			continue
		}
		for _, operator := range []string{"", "NEQ", "In", "NotIn"} {
			if by := where.Fields.ForName(camel(f.Name) + operator); by != nil {
				by.Description = strings.TrimSuffix(filter(by.Name), ".") + "; upper or lower case and the form of a domain make no difference."
			}
		}
	}
}

// isFolded reports whether values of a field are compared folded.
func isFolded(n *gen.Type, field string) bool {
	if slices.ContainsFunc(n.Fields, func(f *gen.Field) bool { return f.Name == field+"_folded" }) {
		return true
	}
	record, _ := n.Annotations["LetheRecord"].(map[string]any)
	uniques, _ := record["Uniques"].([]any)
	return slices.ContainsFunc(uniques, func(u any) bool {
		unique, _ := u.(map[string]any)
		return unique["Field"] == field && unique["Fold"] != string(lifecycle.FoldNone)
	})
}

func or(description *string, words string) {
	if *description == "" {
		*description = words
	}
}

// filter says what a field of a where-input compares.
func filter(name string) string {
	switch name {
	case "not":
		return "What this filter does not match."
	case "and":
		return "What all of these filters match."
	case "or":
		return "What one of these filters matches."
	}
	if edge, ok := strings.CutPrefix(name, "has"); ok && strings.ToUpper(edge[:1]) == edge[:1] {
		if edge, ok = strings.CutSuffix(edge, "With"); ok {
			return "Whether one of its " + words(snake(edge)) + " is live, to be seen, and matches one of these filters."
		}
		return "Whether it has live " + words(snake(edge)) + " that are to be seen."
	}
	for _, o := range operators {
		if field, ok := strings.CutSuffix(name, o.suffix); ok && field != "" {
			return "Its " + words(snake(field)) + " " + o.words + "."
		}
	}
	return "Its " + words(snake(name)) + " is the value."
}

func words(snake string) string { return strings.ReplaceAll(snake, "_", " ") }
