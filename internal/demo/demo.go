// Package demo fills a tenant with sample data: real customers, contacts and
// mails where there are free ones, and invented ones in Russian, Chinese and
// English. data/README.md says which is which.
package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/visible"
)

// Tenant is the name of the tenant that is made for the sample data, Domain
// where its users have their addresses.
const (
	Tenant = "demo"
	Domain = "demo.example"
)

// User is somebody the tenant must have before it is filled.
type User struct {
	Name, Role, Team string
}

// Email is the address the user signs in by.
func (u User) Email() string { return u.Name + "@" + Domain }

// Users are the people of the demo. Records belong to agent@, manager@ and
// agent2@; everything is entered by admin@.
func Users() []User {
	return []User{
		{"admin", "admin", "Sales"},
		{"manager", "manager", "Sales"},
		{"agent", "agent", "Sales"},
		{"agent2", "agent", "Support"},
		{"compliance", "compliance", "Sales"},
		{"purger", "purger", "Sales"},
		{"viewer", "viewer", "Sales"},
	}
}

// Config says where the sample data goes.
type Config struct {
	DB      *store.DB
	Records *record.Service
	Tenant  gid.ID
}

// Load fills a tenant, whose users are there, in one transaction, through the
// same pipeline as any caller. A tenant that has customers in any state is left
// as it is.
func Load(ctx context.Context, config Config) error {
	l := &loader{Config: config, people: map[string]*actor.Actor{}, customers: map[string]gid.ID{}, contacts: map[string]contact{}, messages: map[string]gid.ID{}}
	err := l.DB.InTx(ctx, func(ctx context.Context, tx *store.Tx) error {
		var filled int
		if _, err := store.Build(tx).Add(`SELECT 1 FROM customers WHERE tenant_id = ? LIMIT 1`, l.Tenant).One(ctx, tx, &filled); err != nil {
			return fmt.Errorf("looking for customers: %w", err)
		}
		if filled == 1 {
			return nil
		}
		return l.load(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("loading the sample data: %w", err)
	}
	return nil
}

// loader resolves what the sample data refers to by name.
type loader struct {
	Config
	tx        *store.Tx
	people    map[string]*actor.Actor // by user name
	customers map[string]gid.ID       // by name
	contacts  map[string]contact      // by address
	messages  map[string]gid.ID       // by their keys in own.json
}

type contact struct{ id, customer gid.ID }

// owners have the records whose owner own.json does not name, in turn.
var owners = []string{"agent", "manager", "agent2"}

func (l *loader) load(ctx context.Context, tx *store.Tx) error {
	l.tx = tx
	if err := l.findPeople(ctx); err != nil {
		return err
	}
	s, err := readSamples()
	if err != nil {
		return err
	}
	admin := l.as(ctx, "admin")
	for _, step := range []func(context.Context, *samples) error{l.createCustomers, l.createContacts, l.createDeals, l.createMessages, l.createActivity} {
		if err := step(admin, s); err != nil {
			return err
		}
	}
	for _, o := range s.Operations {
		if err := l.operate(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// findPeople finds the users and their teams.
func (l *loader) findPeople(ctx context.Context) error {
	err := store.Build(l.tx).Add(`SELECT u.id, u.email_key, t.team_id FROM users u LEFT JOIN user_teams t ON t.user_id = u.id
		WHERE u.tenant_id = ? ORDER BY t.team_id`, l.Tenant).Query(ctx, l.tx, func(rows store.Row) error {
		var id gid.ID
		var team *gid.ID
		var email string
		if err := rows.Scan(&id, &email, &team); err != nil {
			return err
		}
		name := strings.TrimSuffix(email, "@"+Domain)
		if l.people[name] == nil {
			l.people[name] = &actor.Actor{Kind: actor.User, Tenant: l.Tenant, TenantName: Tenant, User: id, RequestID: "demo"}
		}
		if team != nil {
			l.people[name].Teams = append(l.people[name].Teams, *team)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking up the users: %w", err)
	}
	for _, u := range Users() {
		if l.people[u.Name] == nil {
			return fmt.Errorf("there is no user %s", u.Email())
		}
	}
	return nil
}

// as is a context in which a user acts.
func (l *loader) as(ctx context.Context, name string) context.Context {
	ctx = actor.With(ctx, l.people[name])
	return visible.With(ctx, l.Records.Rows(ctx))
}

// owned gives a record to a user and his team.
func (l *loader) owned(values record.Values, owner string) record.Values {
	a := l.people[owner]
	values["ownerID"] = a.User
	if team := a.FirstTeam(); team != nil {
		values["teamID"] = *team
	}
	return values
}

// create makes records, none of which may be refused.
func (l *loader) create(ctx context.Context, typ string, rows []record.Values) ([]ent.Record, error) {
	records, refusals, err := l.Records.CreateMany(ctx, typ, rows)
	if err != nil {
		return nil, fmt.Errorf("creating records of type %s: %w", typ, err)
	}
	for i, refused := range refusals {
		if refused != nil {
			return nil, fmt.Errorf("creating record %d of type %s: %w", i, typ, refused)
		}
	}
	return records, nil
}

// operate applies a verb, so that the bin, the voided and the archive are not
// empty.
func (l *loader) operate(ctx context.Context, o operation) error {
	id, ok := l.customers[o.Customer]
	switch {
	case o.Contact != "":
		var c contact
		c, ok = l.contacts[o.Contact]
		id = c.id
	case o.Message != "":
		id, ok = l.messages[o.Message]
	}
	if !ok {
		return fmt.Errorf("what %s of %+v is about %w", o.Verb, o, errUnknown)
	}
	request := record.Request{Verb: o.Verb, Reason: o.Reason, Select: record.Selection{IDs: []gid.ID{id}}}
	if o.DuplicateOf != "" {
		original := l.customers[o.DuplicateOf]
		request.DuplicateOf = &original
	}
	op, err := l.Records.Run(l.as(ctx, o.As), request)
	if err != nil {
		return fmt.Errorf("%s as %s: %w", o.Verb, o.As, err)
	}
	if op.Changed == 0 || op.Failed > 0 {
		return fmt.Errorf("%s of %+v as %s: %s", o.Verb, o, o.As, op.Status)
	}
	return nil
}

var errUnknown = errors.New("is not among the sample data")

// operation is a verb somebody applies in own.json.
type operation struct {
	As          string         `json:"as"`
	Verb        lifecycle.Verb `json:"verb"`
	Customer    string         `json:"customer"`
	Contact     string         `json:"contact"`
	Message     string         `json:"message"`
	Reason      string         `json:"reason"`
	DuplicateOf string         `json:"duplicateOf"`
}
