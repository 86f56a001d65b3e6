package importer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/contact"
	"github.com/lethe-crm/lethe/ent/customer"
	"github.com/lethe-crm/lethe/ent/message"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
)

// lookupKeys is how many values one statement looks for through ent, which
// gives each an argument of its own; SQLite takes 32,766.
const lookupKeys = 10_000

// leaveOutTwins marks the rows that are records already, live or retired: by
// what is unique in the tenant, or else, once it is known whose the rows are, by
// what is unique within that.
func (r *run) leaveOutTwins(ctx context.Context, tx *store.Tx, rows []*row, within bool) error {
	rows = slices.DeleteFunc(slices.Clone(rows), func(row *row) bool { return !row.pending() })
	live, retired, err := r.twins(ctx, tx, rows, within)
	if err != nil {
		return err
	}
	for _, row := range rows {
		mark := func(column, field, key string) {
			switch {
			case key == "":
			case !live[column+" "+key].IsZero() || r.seen.has(column, key):
				row.item.Outcome, row.item.Code, row.item.Reason = Duplicate, string(lifecycle.UniqueConflict), field+": another live record has this value"
			case retired[column+" "+key] && row.pending():
				row.item.Outcome, row.item.Code, row.item.Reason = InBin, string(lifecycle.UniqueConflict), field+": a deleted or voided record has this value"
			}
		}
		for _, u := range r.typ.Uniques {
			if within == (u.Within != "") {
				mark(u.Key, u.GraphQL, row.scoped(r.typ, u))
			}
		}
		if r.typ.Numbered && !within {
			mark("number", "number", row.number())
		}
	}
	return nil
}

// twins answers, in one statement, which live record has a unique value and which
// values retired records have, each as "column value", with what it is unique within behind it. It looks
// past what the actor may see, as the rule does that they are unique.
func (r *run) twins(ctx context.Context, q store.Querier, rows []*row, within bool) (live map[string]gid.ID, retired map[string]bool, err error) {
	live, retired = map[string]gid.ID{}, map[string]bool{}
	stmt, empty := store.Build(q), true
	add := func(column, scope, condition string, keys []string) {
		if len(keys) == 0 {
			return
		}
		if !empty {
			stmt.Add(` UNION ALL `)
		}
		empty = false
		// Each part has an index: live values have one of their own, the retired
		// records are found by state.
		stmt.Add(`SELECT '`+column+`', `+column+`, `+scope+`, id, CASE WHEN retired_at IS NULL THEN 1 ELSE 0 END FROM `+r.typ.Table+` WHERE tenant_id = ? AND `+condition, r.actor.Tenant).
			Strings(column, keys)
	}
	for _, u := range r.typ.Uniques {
		if within != (u.Within != "") {
			continue
		}
		scope := cmp.Or(u.Within, "NULL")
		keys := distinct(rows, func(row *row) []string { return []string{row.key(u)} })
		add(u.Key, scope, `retired_at IS NULL AND `, keys)
		add(u.Key, scope, `state IN ('`+string(lifecycle.Voided)+`', '`+string(lifecycle.Deleted)+`') AND `, keys)
	}
	if r.typ.Numbered && !within {
		add("number", "NULL", ``, distinct(rows, func(row *row) []string { return []string{row.number()} }))
	}
	if empty {
		return live, retired, nil
	}
	err = stmt.Query(ctx, q, func(rows store.Row) error {
		var column, key string
		var of, id gid.ID
		var alive int
		if err := rows.Scan(&column, &key, &of, &id, &alive); err != nil {
			return err
		}
		if !of.IsZero() {
			key += " " + of.UUID()
		}
		if alive == 1 {
			live[column+" "+key] = id
		} else {
			retired[column+" "+key] = true
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("looking for twins: %w", err)
	}
	return live, retired, nil
}

// link finds the users, the contact, the customer and the message that rows
// refer to by address and by Message-ID.
func (r *run) link(ctx context.Context, tx *store.Tx, rows []*row) error {
	rows = slices.DeleteFunc(slices.Clone(rows), func(row *row) bool { return !row.pending() })
	if err := r.findReferences(ctx, rows); err != nil {
		return err
	}
	users, err := r.users(ctx, tx, distinct(rows, func(row *row) []string {
		return []string{row.owner, row.sender, record.Fold(row.named(assigneeField), lifecycle.FoldEmail)}
	}))
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.owner == "" {
			continue
		}
		if u, ok := users[row.owner]; ok && u.active {
			row.values["ownerID"] = u.id
		} else {
			row.item.fail(string(lifecycle.BadUserInput), "owner: there is no active user with this address")
		}
	}
	for _, row := range rows {
		address := record.Fold(row.named(assigneeField), lifecycle.FoldEmail)
		if address == "" {
			continue
		}
		if u, ok := users[address]; ok && u.active {
			row.values["assigneeID"] = u.id
		} else {
			row.warnf("assignee: there is no active user %q", row.named(assigneeField))
		}
	}
	if !r.mail {
		if err := r.resolve(ctx, rows); err != nil {
			return err
		}
	}
	if r.As != Messages {
		return nil
	}
	for _, row := range rows {
		if _, ours := users[row.sender]; ours && row.given["direction"] == nil || ours && r.mail && r.set.values["direction"] == nil {
			row.values["direction"] = message.DirectionOUTBOUND
		}
	}
	if err := r.linkPeople(ctx, rows); err != nil {
		return err
	}
	return r.linkReplies(ctx, rows)
}

type user struct {
	id     gid.ID
	active bool
}

// users are the tenant's users by address, whether they are active or not: mail
// of somebody who left went out all the same.
func (r *run) users(ctx context.Context, tx *store.Tx, addresses []string) (map[string]user, error) {
	out := map[string]user{}
	if len(addresses) == 0 {
		return out, nil
	}
	err := store.Build(tx).Add(`SELECT email_key, id, active FROM users WHERE tenant_id = ? AND `, r.actor.Tenant).
		Strings("email_key", addresses).Query(ctx, tx, func(rows store.Row) error {
		var key string
		var u user
		if err := rows.Scan(&key, &u.id, &u.active); err != nil {
			return err
		}
		out[key] = u
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking up users: %w", err)
	}
	return out, nil
}

// counterparts are the addresses of those a mail was exchanged with, in the
// order in which they are looked for.
func (row *row) counterparts() []string {
	if row.values["direction"] == message.DirectionOUTBOUND {
		return row.recipients
	}
	return []string{row.sender}
}

// linkPeople links mail to the live contact with its counterpart's address and
// the contact's customer, else to the live customer with that address, as far
// as the actor may see them.
func (r *run) linkPeople(ctx context.Context, rows []*row) error {
	addresses := distinct(rows, (*row).counterparts)
	contacts, err := r.contacts(ctx, addresses)
	if err != nil {
		return err
	}
	var employers []gid.ID
	for _, c := range contacts {
		if c.Customer != nil {
			employers = append(employers, *c.Customer)
		}
	}
	byAddress, byID, err := r.customers(ctx, addresses, employers)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.values["customerID"] != nil || row.exported {
			continue // it says whose it is
		}
		var of *customerRow
		if c, ok := first(row.counterparts(), contacts); ok {
			row.values["contactID"] = c.ID
			if c.Customer != nil {
				of = byID[*c.Customer]
			}
		} else {
			of, _ = first(row.counterparts(), byAddress)
		}
		if of != nil {
			row.values["customerID"], row.ownerRef, row.teamRef = of.ID, of.Owner, of.Team
		}
	}
	return nil
}

// first is the value of the first key that has one.
func first[V any](keys []string, values map[string]V) (v V, ok bool) {
	for _, key := range keys {
		if v, ok = values[key]; ok {
			break
		}
	}
	return v, ok
}

type contactRow struct {
	ID       gid.ID  `sql:"id"`
	Key      string  `sql:"email_key"`
	Customer *gid.ID `sql:"customer_id"`
}

// contacts are the live contacts by address, the oldest where several share it.
func (r *run) contacts(ctx context.Context, addresses []string) (map[string]contactRow, error) {
	out := map[string]contactRow{}
	for keys := range slices.Chunk(addresses, lookupKeys) {
		var rows []contactRow
		err := r.Records.Client(ctx).Contact.Query().Where(contact.RetiredAtIsNil(), contact.EmailKeyIn(keys...)).Order(contact.ByID()).
			Select(contact.FieldID, contact.FieldEmailKey, contact.FieldCustomerID).Scan(ctx, &rows)
		if err != nil {
			return nil, fmt.Errorf("looking up contacts: %w", err)
		}
		for _, c := range rows {
			if _, older := out[c.Key]; !older {
				out[c.Key] = c
			}
		}
	}
	return out, nil
}

type customerRow struct {
	ID    gid.ID  `sql:"id"`
	Key   *string `sql:"email_key"`
	Owner *gid.ID `sql:"owner_id"`
	Team  *gid.ID `sql:"team_id"`
}

func (r *run) customers(ctx context.Context, addresses []string, ids []gid.ID) (byAddress map[string]*customerRow, byID map[gid.ID]*customerRow, err error) {
	byAddress, byID = map[string]*customerRow{}, map[gid.ID]*customerRow{}
	for len(addresses)+len(ids) > 0 {
		keys, some := addresses[:min(len(addresses), lookupKeys)], ids[:min(len(ids), lookupKeys)]
		addresses, ids = addresses[len(keys):], ids[len(some):]
		var rows []*customerRow
		err := r.Records.Client(ctx).Customer.Query().
			Where(customer.RetiredAtIsNil(), customer.Or(customer.EmailKeyIn(keys...), customer.IDIn(some...))).
			Select(customer.FieldID, customer.FieldEmailKey, customer.FieldOwnerID, customer.FieldTeamID).Scan(ctx, &rows)
		if err != nil {
			return nil, nil, fmt.Errorf("looking up customers: %w", err)
		}
		for _, c := range rows {
			byID[c.ID] = c
			if c.Key != nil {
				byAddress[*c.Key] = c
			}
		}
	}
	return byAddress, byID, nil
}

// messageID is by what messages are told apart.
func (r *run) messageID() ent.RecordUnique {
	return r.typ.Uniques[slices.IndexFunc(r.typ.Uniques, func(u ent.RecordUnique) bool { return u.Key == message.FieldMessageIDKey })]
}

// linkReplies links replies to the live message they answer, or to the row that
// will become it.
func (r *run) linkReplies(ctx context.Context, rows []*row) error {
	id := r.messageID()
	answered := distinct(rows, func(row *row) []string { return []string{row.replyTo} })
	there := map[string]gid.ID{}
	for keys := range slices.Chunk(answered, lookupKeys) {
		var found []struct {
			ID  gid.ID `sql:"id"`
			Key string `sql:"message_id_key"`
		}
		err := r.Records.Client(ctx).Message.Query().Where(message.RetiredAtIsNil(), message.MessageIDKeyIn(keys...)).
			Select(message.FieldID, message.FieldMessageIDKey).Scan(ctx, &found)
		if err != nil {
			return fmt.Errorf("looking up what is answered: %w", err)
		}
		for _, m := range found {
			there[m.Key] = m.ID
		}
	}
	coming := map[string]*row{}
	for _, row := range rows {
		if key := row.key(id); coming[key] == nil && row.pending() {
			coming[key] = row
		}
	}
	for _, row := range rows {
		if target, ok := there[row.replyTo]; ok {
			row.values["inReplyToID"] = target
		} else if parent := coming[row.replyTo]; parent != nil && row.replyTo != "" && !parent.follows(row) {
			row.parent = parent
		}
	}
	return nil
}

// follows reports whether a row has to wait for another one, or is it.
func (row *row) follows(other *row) bool {
	for at := row; at != nil; at = at.parent {
		if at == other {
			return true
		}
	}
	return false
}

// distinct are the values of rows that are not empty, each once, sorted.
func distinct(rows []*row, values func(*row) []string) []string {
	var out []string
	for _, row := range rows {
		for _, v := range values(row) {
			if v != "" {
				out = append(out, v)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
