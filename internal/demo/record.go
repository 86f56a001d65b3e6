package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/ent/deal"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/importer"
	"github.com/lethe-crm/lethe/internal/mail"
	"github.com/lethe-crm/lethe/internal/record"
)

// day is a time so many days before the demo is loaded.
func (l *loader) day(ago int) time.Time { return l.tx.Now().AddDate(0, 0, -ago) }

func (l *loader) createCustomers(ctx context.Context, s *samples) error {
	rows := make([]record.Values, len(s.Customers))
	for i, c := range s.Customers {
		values := record.Values{
			"name": c.Name, "kind": customer.DefaultKind, "status": customer.DefaultStatus,
			"email": c.Email, "phone": c.Phone, "domain": c.Domain,
		}
		if c.Kind != "" {
			values["kind"] = c.Kind
		}
		if c.Status != "" {
			values["status"] = c.Status
		}
		if c.EndedDaysAgo > 0 {
			values["endedAt"] = l.day(c.EndedDaysAgo)
		}
		rows[i] = l.owned(values, c.Owner)
	}
	records, err := l.create(ctx, ent.TypeCustomer, rows)
	if err != nil {
		return err
	}
	for i, r := range records {
		l.customers[s.Customers[i].Name] = r.RecordID()
	}
	return nil
}

func (l *loader) createContacts(ctx context.Context, s *samples) error {
	var rows []record.Values
	for _, c := range s.Customers {
		for _, p := range c.Contacts {
			rows = append(rows, record.Values{"name": p.Name, "email": p.Email, "phone": p.Phone, "title": p.Title, "customerID": l.customers[c.Name]})
		}
	}
	records, err := l.create(ctx, ent.TypeContact, rows)
	if err != nil {
		return err
	}
	for _, c := range s.Customers {
		for _, p := range c.Contacts {
			l.contacts[p.Email], records = contact{records[0].RecordID(), l.customers[c.Name]}, records[1:]
		}
	}
	return nil
}

func (l *loader) createDeals(ctx context.Context, s *samples) error {
	var rows []record.Values
	add := func(d sampleDeal) error {
		id, ok := l.customers[d.Customer]
		if !ok {
			return fmt.Errorf("the customer %q of a deal %w", d.Customer, errUnknown)
		}
		values := record.Values{"name": d.Name, "stage": d.Stage, "customerID": id, "closesAt": l.day(-d.ClosesInDays)}
		if d.Stage == "" {
			values["stage"] = deal.DefaultStage
		}
		if d.Amount > 0 {
			values["amount"], values["currency"] = d.Amount, d.Currency
		}
		if !d.closesAt.IsZero() {
			values["closesAt"] = d.closesAt
		}
		if d.Contact != "" {
			values["primaryContactID"] = l.contacts[d.Contact].id
		}
		rows = append(rows, l.owned(values, s.owner(d.Customer)))
		return nil
	}
	for _, c := range s.Customers {
		for _, d := range c.Deals {
			d.Customer = c.Name
			if err := add(d); err != nil {
				return err
			}
		}
	}
	for _, d := range s.Deals {
		if err := add(d); err != nil {
			return err
		}
	}
	_, err := l.create(ctx, ent.TypeDeal, rows)
	return err
}

// createMessages creates the mails first, then each answer after what it
// answers.
func (l *loader) createMessages(ctx context.Context, s *samples) error {
	var waiting []sampleMessage
	for _, c := range s.Customers {
		for _, m := range c.Messages {
			m.customer = c.Name
			waiting = append(waiting, m)
		}
	}
	rows, err := l.mails(s)
	if err != nil {
		return err
	}
	keys := slices.Repeat([]string{""}, len(rows)) // of the mails, to which nothing refers
	threads := map[string]string{}
	for len(waiting) > 0 {
		var later []sampleMessage
		for _, m := range waiting {
			if _, there := l.messages[m.ReplyTo]; !there && m.ReplyTo != "" {
				later = append(later, m)
				continue
			}
			threads[m.ID] = m.ID
			if m.ReplyTo != "" {
				threads[m.ID] = threads[m.ReplyTo]
			}
			rows, keys = append(rows, l.message(m, threads[m.ID])), append(keys, m.ID)
		}
		if len(rows) == 0 {
			return fmt.Errorf("what %q answers %w", waiting[0].ID, errUnknown)
		}
		records, err := l.create(ctx, ent.TypeMessage, rows)
		if err != nil {
			return err
		}
		for i, r := range records {
			if keys[i] != "" {
				l.messages[keys[i]] = r.RecordID()
			}
		}
		rows, keys, waiting = nil, nil, later
	}
	return nil
}

func (l *loader) message(m sampleMessage, thread string) record.Values {
	values := record.Values{
		"channel": message.ChannelEMAIL, "category": message.DefaultCategory, "direction": message.DirectionINBOUND,
		"sender": m.From, "subject": m.Subject, "body": m.Body, "sentAt": l.day(m.DaysAgo),
		"messageID": m.ID + "@" + Domain, "threadKey": thread + "@" + Domain, "customerID": l.customers[m.customer],
	}
	if m.Category != "" {
		values["category"] = m.Category
	}
	counterpart := m.From
	if strings.HasSuffix(m.From, "@"+Domain) {
		values["direction"], counterpart = message.DirectionOUTBOUND, m.To[0]
	}
	if c, ok := l.contacts[counterpart]; ok {
		values["contactID"] = c.id
	}
	if id, ok := l.messages[m.ReplyTo]; ok {
		values["inReplyToID"] = id
	}
	var recipients []map[string]any
	for _, to := range m.To {
		recipients = append(recipients, map[string]any{"kind": mail.To, "address": to})
	}
	for _, cc := range m.CC {
		recipients = append(recipients, map[string]any{"kind": mail.CC, "address": cc})
	}
	values["recipients"] = recipients
	return values
}

// mails are the sample mails, which belong to no customer.
func (l *loader) mails(s *samples) ([]record.Values, error) {
	rows := make([]record.Values, len(s.mails))
	for i, raw := range s.mails {
		m, err := mail.Parse(raw, mail.Times{Import: l.tx.Now()})
		if err != nil {
			return nil, fmt.Errorf("reading sample mail %d: %w", i, err)
		}
		values, _ := importer.Values(m)
		rows[i] = l.owned(values, owners[i%len(owners)])
	}
	return rows, nil
}
