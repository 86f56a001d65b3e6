package demo

import (
	"context"
	"fmt"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/call"
	"github.com/lethe-crm/lethe/ent/note"
	"github.com/lethe-crm/lethe/internal/record"
)

// sampleCall is a phone call with a customer.
type sampleCall struct {
	Customer  string         `json:"customer"`
	Direction call.Direction `json:"direction"`
	From      string         `json:"from"`
	To        string         `json:"to"`
	DaysAgo   int            `json:"daysAgo"`
	Seconds   int            `json:"seconds"`
	Outcome   call.Outcome   `json:"outcome"`
}

// sampleNote is what somebody wrote down about a customer.
type sampleNote struct {
	Customer string    `json:"customer"`
	Kind     note.Kind `json:"kind"`
	DaysAgo  int       `json:"daysAgo"`
	Body     string    `json:"body"`
	File     string    `json:"file"` // that belongs to it
}

// sampleTask is something to be done for a customer.
type sampleTask struct {
	Customer  string `json:"customer"`
	Title     string `json:"title"`
	DueInDays int    `json:"dueInDays"`
	Done      bool   `json:"done"`
	Assignee  string `json:"assignee"`
}

// createActivity makes the calls, tasks and notes, and the files of notes. They
// belong to whom their customers belong to.
func (l *loader) createActivity(ctx context.Context, s *samples) error {
	byType := map[string][]record.Values{}
	add := func(typ, customer string, values record.Values) error {
		id, ok := l.customers[customer]
		if !ok {
			return fmt.Errorf("the customer %q of a %s %w", customer, typ, errUnknown)
		}
		values["customerID"] = id
		byType[typ] = append(byType[typ], values)
		return nil
	}
	for _, c := range s.Calls {
		values := record.Values{"direction": c.Direction, "fromNumber": c.From, "toNumber": c.To, "startedAt": l.day(c.DaysAgo), "durationSeconds": c.Seconds, "outcome": c.Outcome}
		if err := add(ent.TypeCall, c.Customer, values); err != nil {
			return err
		}
	}
	for _, t := range s.Tasks {
		values := record.Values{"title": t.Title, "dueAt": l.day(-t.DueInDays), "done": t.Done, "assigneeID": l.people[t.Assignee].User}
		if err := add(ent.TypeTask, t.Customer, values); err != nil {
			return err
		}
	}
	for _, n := range s.Notes {
		if err := add(ent.TypeNote, n.Customer, record.Values{"kind": n.Kind, "body": n.Body, "happenedAt": l.day(n.DaysAgo)}); err != nil {
			return err
		}
	}
	for _, typ := range []string{ent.TypeCall, ent.TypeTask, ent.TypeNote} {
		records, err := l.create(ctx, typ, byType[typ])
		if err != nil {
			return err
		}
		if typ != ent.TypeNote {
			continue
		}
		var files []record.Values
		for i, n := range s.Notes {
			if n.File != "" {
				files = append(files, record.Values{"filename": n.File, "mediaType": "application/pdf", "noteID": records[i].RecordID()})
			}
		}
		if _, err := l.create(ctx, ent.TypeAttachment, files); err != nil {
			return err
		}
	}
	return nil
}
