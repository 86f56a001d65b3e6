package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lethe-crm/lethe/ent/mixin"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/store"
)

// lifeColumns are those all record types have, in the order of life.
var lifeColumns = []string{"id", "tenant_id", "owner_id", "team_id", "created_at", "updated_at", "state_changed_at", "state_changed_by_id", "state", "seal", "version"}

func columns(more ...string) []string { return append(append([]string(nil), lifeColumns...), more...) }

// life are the columns of a new record.
func (s *seeder) life(id gid.ID, c *customerSeed, at time.Time, more ...any) []any {
	seal := make([]byte, mixin.SealSize)
	_, _ = s.source.Read(seal) // it never fails
	owners := s.owners[c.team]
	owner := owners[int(c.id[9])%len(owners)] // an inner byte, which is random
	at = at.UTC().Truncate(time.Microsecond)
	return append([]any{id, s.tenant, owner, s.teams[c.team], at, at, at, owner, "ACTIVE", seal, int64(1)}, more...)
}

func (s *seeder) pick(words []string) string { return words[s.random.IntN(len(words))] }

func (s *seeder) writeCustomers(ctx context.Context) error {
	err := s.insert(ctx, len(s.customers), func(ctx context.Context, tx *store.Tx, from, to int) error {
		var customers, contacts, numbers [][]any
		for i := from; i < to; i++ {
			c := &s.customers[i]
			number := fmt.Sprintf("C-%d", i+1)
			name := s.pick(families) + " " + s.pick(trades) + " " + s.pick(forms)
			domain := fmt.Sprintf("%s-%d.example", strings.ToLower(s.pick(trades)), i+1)
			phone := fmt.Sprintf("+4930%07d", i)
			customers = append(customers, s.life(c.id, c, c.created, number, name, "COMPANY", "info@"+domain, "info@"+domain, phone, domain, domain, "CUSTOMER", c.last))
			person := s.pick(given)
			contacts = append(contacts, s.life(c.contact, c, c.created, person+" "+s.pick(families), strings.ToLower(person)+"@"+domain, strings.ToLower(person)+"@"+domain, phone, "Purchasing", c.id))
			numbers = append(numbers, []any{s.tenant, "Customer", number, c.id})
		}
		return first(
			func() error {
				return tx.Insert(ctx, "customers", columns("number", "name", "kind", "email", "email_key", "phone", "domain", "domain_key", "status", "last_activity_at"), customers)
			},
			func() error {
				return tx.Insert(ctx, "contacts", columns("name", "email", "email_key", "phone", "title", "customer_id"), contacts)
			},
			func() error {
				return tx.Insert(ctx, "record_numbers", []string{"tenant_id", "record_type", "number", "record_id"}, numbers)
			},
		)
	})
	if err != nil {
		return err
	}
	_, err = store.Build(s.db).Add(`INSERT INTO number_counters (tenant_id, record_type, next) VALUES (?, 'Customer', ?), (?, 'Deal', ?)`,
		s.tenant, len(s.customers)+1, s.tenant, len(s.customers)+1).Exec(ctx, s.db)
	return err
}

func (s *seeder) writeMessages(ctx context.Context) error {
	senders := make([]string, max(4, len(s.assigned)/500))
	for i := range senders {
		senders[i] = fmt.Sprintf("%s.%s%d@mail.example", strings.ToLower(s.pick(given)), strings.ToLower(s.pick(families)), i)
	}
	thread := s.threads()
	return s.insert(ctx, len(s.assigned), func(ctx context.Context, tx *store.Tx, from, to int) error {
		messages, recipients := make([][]any, 0, to-from), make([][]any, 0, 2*(to-from))
		for i := from; i < to; i++ {
			c, at := &s.customers[s.assigned[i]], s.sentAt(i)
			s.clock = at
			id := s.ids.New(gid.Message)
			sender, direction := s.pick(senders), "INBOUND"
			if i%3 == 0 {
				direction = "OUTBOUND"
			}
			key := fmt.Sprintf("%016x.%d@mail.example", s.random.Uint64(), i)
			messages = append(messages, s.life(id, c, at, key, key, "EMAIL", "NORMAL", direction, sender, s.pick(given), sender,
				s.pick(subjects)+fmt.Sprintf(" (%06d)", i), s.body(), at, thread(c.team), c.id, c.contact))
			for _, kind := range []string{"TO", "CC"}[:1+i%2] {
				address := s.pick(senders)
				recipients = append(recipients, []any{s.ids.New(gid.Recipient), s.tenant, id, kind, address, address, s.pick(given)})
			}
		}
		return first(
			func() error {
				return tx.Insert(ctx, "messages", columns("message_id", "message_id_key", "channel", "category", "direction", "sender", "sender_name", "sender_folded",
					"subject", "body", "sent_at", "thread_key", "customer_id", "contact_id"), messages)
			},
			func() error {
				return tx.Insert(ctx, "recipients", []string{"id", "tenant_id", "message_id", "kind", "address", "address_key", "name"}, recipients)
			},
		)
	})
}

// writeRest gives every second customer a call, a note and a task, every fifth a
// deal, and every tenth a file.
func (s *seeder) writeRest(ctx context.Context) error {
	return s.insert(ctx, len(s.customers), func(ctx context.Context, tx *store.Tx, from, to int) error {
		var calls, notes, tasks, deals, files, numbers [][]any
		for i := from; i < to; i++ {
			c := &s.customers[i]
			at := s.begin.Add(time.Duration(s.random.Int64N(int64(c.last.Sub(s.begin)) + 1))).UTC().Truncate(time.Microsecond)
			s.clock = at
			if i/2%2 == 0 {
				calls = append(calls, s.life(s.ids.New(gid.Call), c, at, "INBOUND", fmt.Sprintf("+4930%07d", i), "+493012345", at, 180, "ANSWERED", c.id, c.contact))
				notes = append(notes, s.life(s.ids.New(gid.Note), c, at, "NOTE", s.body(), at, c.id))
				tasks = append(tasks, s.life(s.ids.New(gid.Task), c, at, "Call back", s.pick(sentences), at.AddDate(0, 0, 7), false, c.id))
			}
			if i/2%5 == 1 {
				number := fmt.Sprintf("D-%d", i+1)
				id := s.ids.New(gid.Deal)
				deals = append(deals, s.life(id, c, at, number, s.pick(subjects), 1000.5, "EUR", "QUALIFICATION", c.id, c.contact))
				numbers = append(numbers, []any{s.tenant, "Deal", number, id})
			}
			if i/2%10 == 0 {
				files = append(files, s.life(s.ids.New(gid.Attachment), c, at, "offer.pdf", "application/pdf", 123_456, c.id))
			}
		}
		insert := func(table string, columns []string, rows [][]any) func() error {
			return func() error { return tx.Insert(ctx, table, columns, rows) }
		}
		return first(
			insert("calls", columns("direction", "from_number", "to_number", "started_at", "duration_seconds", "outcome", "customer_id", "contact_id"), calls),
			insert("notes", columns("kind", "body", "happened_at", "customer_id"), notes),
			insert("tasks", columns("title", "body", "due_at", "done", "customer_id"), tasks),
			insert("deals", columns("number", "name", "amount", "currency", "stage", "customer_id", "primary_contact_id"), deals),
			insert("attachments", columns("filename", "media_type", "size", "customer_id"), files),
			insert("record_numbers", []string{"tenant_id", "record_type", "number", "record_id"}, numbers),
		)
	})
}

// first runs steps up to the first that fails.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// body is a text of some 300 characters.
func (s *seeder) body() string {
	var b strings.Builder
	b.WriteString("Hello " + s.pick(given) + ",\n\n")
	for b.Len() < 270 {
		b.WriteString(s.pick(sentences) + " ")
	}
	b.WriteString("\n\nRegards, " + s.pick(given))
	return b.String()
}

var (
	given    = strings.Fields("Anna Bruno Chen Daria Emil Fatima Georg Hana Ivan Jana Karim Lena Mateo Nadia Oleg Petra Quentin Rosa Samir Tove Ulla Viktor Wanda Xenia Yusuf Zora")
	families = strings.Fields("Albrecht Bergstrom Castellano Dubois Eriksen Fischer Gonzalez Horvath Ivanova Jansen Kowalski Lindqvist Moreau Novak Okafor Petrov Quist Rossi Schneider Takahashi Ueda Vasquez Weber Xu Yilmaz Zimmermann")
	trades   = strings.Fields("Logistics Machinery Foods Textiles Software Energy Pharma Printing Optics Furniture Ceramics Shipping Consulting Tools Packaging")
	forms    = strings.Fields("GmbH AG Ltd SARL Oy AB SpA BV Inc")
	subjects = []string{
		"Question about our last invoice", "Delivery date of the spare parts", "Offer for the new contract year", "Minutes of the meeting on Tuesday",
		"Complaint about a damaged shipment", "Change of our billing address", "Renewal of the service agreement", "Request for a product demonstration",
	}
	sentences = []string{
		"Thank you for the quick answer to our last message.", "We would like to know when the remaining items will be shipped.",
		"Please find the corrected figures in the attached document.", "Our purchasing department has asked for another discount on the larger quantities.",
		"The technician could not reach anybody at the given number.", "Could you confirm the appointment for next week?",
		"As discussed on the phone, we agree to the new terms of payment.", "The goods arrived in good order, apart from two boxes.",
		"I will be out of the office until Monday and answer then.", "Kindly send the signed copy back to us by the end of the month.",
	}
)
