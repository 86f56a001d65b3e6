package importer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/mail"
	"github.com/lethe-crm/lethe/internal/record"
)

// readMail reads the mail of a folder, a maildir, an mbox or a file.
func (r *run) readMail(ctx context.Context) error {
	source, err := mail.Open(r.Path, mail.Options{})
	if err != nil {
		return err
	}
	r.progress = func() (int64, int64) { return source.Consumed(), source.Total() }
	r.report.Ignored, r.report.SentAt = source.Ignored(), map[string]int{}
	return source.Walk(ctx, func(item mail.Item) error {
		if row := r.parse(item); row != nil {
			return r.add(ctx, row)
		}
		return nil
	})
}

// parse answers nil for a mail that cannot be read, and takes that down.
func (r *run) parse(item mail.Item) *row {
	m, err := item.Parse(r.Now())
	if err != nil {
		r.report.add(ReportItem{Name: item.Name, Outcome: Failed, Code: Unreadable, Reason: err.Error()})
		return nil
	}
	return r.mailRow(item.Name, m)
}

func (r *run) mailRow(name string, m mail.Message) *row {
	values, warnings := Values(m)
	out := &row{
		item:  ReportItem{Name: name},
		given: values, warnings: slices.Concat(m.Warnings, warnings),
		sentAt: m.SentAtSource, replyTo: record.Fold(m.InReplyTo, lifecycle.FoldNone), owner: r.set.owner,
		size: len(m.Subject) + len(m.Body),
	}
	if m.Sender != nil {
		out.sender = record.Fold(m.Sender.Address, lifecycle.FoldEmail)
	}
	recipients, _ := values["recipients"].([]map[string]any)
	for _, to := range recipients {
		address, _ := to["address"].(string)
		out.recipients = append(out.recipients, record.Fold(address, lifecycle.FoldEmail))
		out.size += len(address)
	}
	for _, a := range m.Attachments {
		f := &file{File: record.NewFile(a.Content), name: a.Filename, kind: cmp.Or(a.MediaType, "application/octet-stream")}
		if r.DryRun {
			f.Content = nil
		}
		out.files, out.held = append(out.files, f), out.held+len(f.Content)
	}
	maps.Copy(values, r.set.values)
	return out
}

// Values are the fields of the message record that a mail becomes, without
// those that link it to other records. The warnings say what was cut.
func Values(m mail.Message) (values record.Values, warnings []string) {
	cut := func(name string) string {
		if utf8.RuneCountInString(name) <= mixin.MaxName {
			return name
		}
		warnings = append(warnings, fmt.Sprintf("a name was cut to %d characters", mixin.MaxName))
		return string([]rune(name)[:mixin.MaxName])
	}
	values = record.Values{
		"channel": message.ChannelEMAIL, "category": message.Category(m.Category), "direction": message.DirectionINBOUND,
		"subject": m.Subject, "body": m.Body, "sentAt": m.SentAt, "messageID": m.MessageID, "threadKey": m.ThreadKey,
	}
	if m.Sender != nil {
		values["sender"], values["senderName"] = m.Sender.Address, cut(m.Sender.Name)
	}
	recipients := make([]map[string]any, 0, len(m.Recipients))
	for _, to := range m.Recipients {
		if address, name := addressAndName(mail.Address{Name: cut(to.Name), Address: to.Address.Address}); address != "" {
			recipients = append(recipients, map[string]any{"kind": to.Kind, "address": address, "name": name})
		}
	}
	values["recipients"] = recipients
	return values, warnings
}

// addressAndName are the two as a record keeps them: "To: Recipient-List" names
// whom a mail went to by no other address.
func addressAndName(a mail.Address) (address, name string) {
	if a.Address == "" {
		return a.Name, ""
	}
	return a.Address, a.Name
}
