package graph

import (
	"context"
	"time"

	"entgo.io/ent/dialect/sql"
	"github.com/99designs/gqlgen/graphql"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/alertrule"
	"github.com/lethe-crm/lethe/ent/notification"
	"github.com/lethe-crm/lethe/ent/webhook"
	"github.com/lethe-crm/lethe/ent/webhookdelivery"
	"github.com/lethe-crm/lethe/graph/model"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/notify"
	"github.com/lethe-crm/lethe/internal/record"
)

// maxMarked is how many notifications may be named at once.
const maxMarked = 1_000

// notificationFilter is what notifications are narrowed to.
type notificationFilter struct {
	unread *bool
	kinds  []notification.Kind
	order  *ent.NotificationOrder
}

func (r *Resolver) notifications(ctx context.Context, f notificationFilter, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.NotificationConnection, error) {
	q := r.client(ctx).Notification.Query()
	if f.unread != nil {
		seen := notification.ReadAtNotNil()
		if *f.unread {
			seen = notification.ReadAtIsNil()
		}
		q.Where(seen)
	}
	if f.kinds != nil {
		q.Where(notification.KindIn(f.kinds...))
	}
	return q.Paginate(ctx, after, first, before, last, ent.WithNotificationOrder(f.order))
}

func (r *Resolver) unread(ctx context.Context) (int32, error) {
	n, err := r.client(ctx).Notification.Query().Where(notification.ReadAtIsNil()).Count(ctx)
	return int32(n), err //nolint:gosec // of 90 days
}

func (r *Resolver) markNotificationsRead(ctx context.Context, ids []gid.ID, all bool) (*model.NotificationsPayload, error) {
	for _, id := range ids {
		if err := checkID(id, "ids", gid.Notification); err != nil {
			return nil, err
		}
	}
	if len(ids) > maxMarked {
		return nil, record.Refuse(lifecycle.Limit, "more than 1,000 notifications at once", "ids")
	}
	marked, err := r.Notify.MarkRead(ctx, ids, all)
	if err != nil {
		return nil, err
	}
	left, err := r.unread(ctx)
	return &model.NotificationsPayload{Marked: int32(marked), Unread: left}, err //nolint:gosec // of 90 days
}

// countsOf are what the notifications that are shown with one are about: with one
// statement for all of them.
func (r *Resolver) countsOf(ctx context.Context, n *ent.Notification) ([]notify.Counted, error) {
	rows, list, err := listOf(ctx, n)
	if err != nil {
		return nil, err
	}
	all, err := once(ctx, listKey{list, "counts"}, func() (map[gid.ID][]notify.Counted, error) {
		return r.Notify.Counts(ctx, collect(rows, func(n *ent.Notification) *gid.ID {
			if n.Records == 0 {
				return nil
			}
			return &n.ID
		}))
	})
	return all[n.ID], err
}

func (r *Resolver) notificationCounts(ctx context.Context, n *ent.Notification) ([]*notify.Counted, error) {
	counts, err := r.countsOf(ctx, n)
	return pointers(counts), err
}

// moreRecords reports whether there are more records than are kept with a
// notification, to who reads all that are.
func (r *Resolver) moreRecords(ctx context.Context, n *ent.Notification) (bool, error) {
	if n.Records <= notify.MaxRecords {
		return false, nil
	}
	counts, err := r.countsOf(ctx, n)
	read := 0
	for _, c := range counts {
		read += c.Count
	}
	return read == notify.MaxRecords, err
}

func (r *Resolver) notificationRecord(ctx context.Context, n *ent.Notification) (ent.Record, error) {
	rows, list, err := listOf(ctx, n)
	if err != nil {
		return nil, err
	}
	only := func(n *ent.Notification) *gid.ID {
		counts, err := r.countsOf(ctx, n)
		if err != nil || len(counts) != 1 || counts[0].Count != 1 {
			return nil
		}
		return &counts[0].Record
	}
	if _, err := r.countsOf(ctx, n); err != nil || only(n) == nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := once(ctx, listKey{list, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		return r.client(ctx).NodesByID(ctx, collect(rows, only), &field)
	})
	rec, _ := found[*only(n)].(ent.Record)
	return rec, err
}

// subjectOf is what a notification names by an id: with one statement for all that
// are shown together.
func subjectOf[T ent.Noder](ctx context.Context, r *Resolver, n *ent.Notification, of gid.Type) (T, error) {
	var none T
	named := func(n *ent.Notification) *gid.ID {
		if n.SubjectID == nil || n.SubjectID.Type() != of {
			return nil
		}
		return n.SubjectID
	}
	if named(n) == nil {
		return none, nil
	}
	rows, list, err := listOf(ctx, n)
	if err != nil {
		return none, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := once(ctx, listKey{list, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		return r.client(ctx).NodesByID(ctx, collect(rows, named), &field)
	})
	thing, _ := found[*n.SubjectID].(T)
	return thing, err
}

// follow begins or ends to follow a record that the caller may read. Who reads it no
// more may still end to follow it.
func (r *Resolver) follow(ctx context.Context, id gid.ID, follow bool) (*model.FollowPayload, error) {
	if ent.RecordTypeOf(id) == nil {
		return nil, badInput("is not the id of a record", "id")
	}
	found, err := r.columns(ctx, []gid.ID{id}, func(*ent.RecordType) []string { return nil })
	if err != nil {
		return nil, err
	}
	if follow {
		if found[id] == nil {
			return nil, record.Refuse(lifecycle.NotFound, messages[lifecycle.NotFound], "id")
		}
		err = r.Notify.Follow(ctx, id)
	} else {
		err = r.Notify.Unfollow(ctx, id)
	}
	field := below(ctx, graphql.GetFieldContext(ctx).Field, "record")
	if err != nil || field == nil || found[id] == nil {
		return &model.FollowPayload{}, err
	}
	read, err := r.client(ctx).NodesByID(ctx, []gid.ID{id}, field)
	rec, _ := read[id].(ent.Record)
	return &model.FollowPayload{Record: rec}, err
}

func (r *Resolver) followedRecords(ctx context.Context, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*model.RecordConnection, error) {
	user := actor.From(ctx).User
	list := mixed{}
	for _, t := range ent.RecordTypes {
		list = append(list, branch{t, "created_at", func(s *sql.Selector) {
			followed := sql.Dialect(s.Dialect()).Table("follows")
			s.Where(sql.In(s.C("id"), sql.Dialect(s.Dialect()).Select(followed.C("record_id")).From(followed).Where(sql.EQ(followed.C("user_id"), user))))
		}})
	}
	return r.recordPage(ctx, list, after, first, before, last)
}

func kindsOf(names []string) []notification.Kind {
	out := make([]notification.Kind, len(names))
	for i, name := range names {
		out[i] = notification.Kind(name)
	}
	return out
}

func recordKinds(names []string) []ent.RecordKind {
	out := []ent.RecordKind{}
	for _, name := range names {
		if t := ent.RecordTypeNamed(name); t != nil {
			out = append(out, t.Kind())
		}
	}
	return out
}

func typesOf(kinds []ent.RecordKind) []string {
	out := make([]string, len(kinds))
	for i, kind := range kinds {
		out[i] = typeOfKind(kind)
	}
	return out
}

func (r *Resolver) webhook(ctx context.Context, id gid.ID) (*ent.Webhook, error) {
	if err := checkID(id, "id", gid.Webhook); err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := r.client(ctx).NodesByID(ctx, []gid.ID{id}, &field)
	hook, _ := found[id].(*ent.Webhook)
	return hook, err
}

func (r *Resolver) webhooks(ctx context.Context, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.WebhookConnection, error) {
	return r.client(ctx).Webhook.Query().Where(webhook.RemovedAtIsNil()).Paginate(ctx, after, first, before, last)
}

func (r *Resolver) webhookDeliveries(ctx context.Context, hook *gid.ID, status *webhookdelivery.Status, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.WebhookDeliveryConnection, error) {
	q := r.client(ctx).WebhookDelivery.Query()
	if hook != nil {
		if err := checkID(*hook, "webhook", gid.Webhook); err != nil {
			return nil, err
		}
		q.Where(webhookdelivery.WebhookIDEQ(*hook))
	}
	if status != nil {
		q.Where(webhookdelivery.StatusEQ(*status))
	}
	return q.Paginate(ctx, after, first, before, last)
}

func (r *Resolver) webhookPayload(ctx context.Context, id gid.ID) (*model.WebhookPayload, error) {
	hook, err := selected[*ent.Webhook](ctx, r, id, "webhook")
	return &model.WebhookPayload{Webhook: hook}, err
}

func (r *Resolver) webhookSecret(ctx context.Context, id gid.ID, secret string) (*model.WebhookSecretPayload, error) {
	hook, err := selected[*ent.Webhook](ctx, r, id, "webhook")
	return &model.WebhookSecretPayload{Webhook: hook, Secret: secret}, err
}

func (r *Resolver) createWebhook(ctx context.Context, in *model.CreateWebhookInput) (*model.WebhookSecretPayload, error) {
	id, secret, err := r.Notify.CreateWebhook(ctx, notify.Webhook{
		URL: in.URL, Name: in.Name, Interests: notify.Interests{Kinds: in.Kinds, Types: typesOf(in.Types.Value())}, Enabled: in.Enabled,
	})
	if err != nil {
		return nil, err
	}
	return r.webhookSecret(ctx, id, secret)
}

// given by name, and not null.
func present[T any](set bool, value *T, field string, into *T) error {
	switch {
	case !set:
	case value == nil:
		return badInput("must not be null", field)
	default:
		*into = *value
	}
	return nil
}

// presentList is present for lists, which are null where they are nil.
func presentList[T any](set bool, value []T, field string, into func([]T)) error {
	switch {
	case !set:
	case value == nil:
		return badInput("must not be null", field)
	default:
		into(value)
	}
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Resolver) updateWebhook(ctx context.Context, in *model.UpdateWebhookInput) (*model.WebhookPayload, error) {
	if err := checkID(in.ID, "id", gid.Webhook); err != nil {
		return nil, err
	}
	err := r.Notify.UpdateWebhook(ctx, in.ID, int(in.Version), func(w *notify.Webhook) error {
		return firstOf(
			present(in.URL.IsSet(), in.URL.Value(), "url", &w.URL), present(in.Name.IsSet(), in.Name.Value(), "name", &w.Name),
			present(in.Enabled.IsSet(), in.Enabled.Value(), "enabled", &w.Enabled),
			presentList(in.Kinds.IsSet(), in.Kinds.Value(), "kinds", func(kinds []notification.Kind) { w.Kinds = kinds }),
			presentList(in.Types.IsSet(), in.Types.Value(), "types", func(types []ent.RecordKind) { w.Types = typesOf(types) }),
		)
	})
	if err != nil {
		return nil, err
	}
	return r.webhookPayload(ctx, in.ID)
}

func (r *Resolver) removeWebhook(ctx context.Context, in *model.WebhookVersionInput) (*model.WebhookPayload, error) {
	if err := checkID(in.ID, "id", gid.Webhook); err != nil {
		return nil, err
	}
	if err := r.Notify.RemoveWebhook(ctx, in.ID, int(in.Version)); err != nil {
		return nil, err
	}
	return r.webhookPayload(ctx, in.ID)
}

func (r *Resolver) rotateWebhookSecret(ctx context.Context, in *model.WebhookVersionInput) (*model.WebhookSecretPayload, error) {
	if err := checkID(in.ID, "id", gid.Webhook); err != nil {
		return nil, err
	}
	secret, err := r.Notify.RotateSecret(ctx, in.ID, int(in.Version))
	if err != nil {
		return nil, err
	}
	return r.webhookSecret(ctx, in.ID, secret)
}

func (r *Resolver) testWebhook(ctx context.Context, id gid.ID) (*model.TestWebhookPayload, error) {
	if err := checkID(id, "id", gid.Webhook); err != nil {
		return nil, err
	}
	sent, err := r.Notify.TestWebhook(ctx, id)
	if err != nil {
		return nil, err
	}
	delivery, err := selected[*ent.WebhookDelivery](ctx, r, sent, "delivery")
	return &model.TestWebhookPayload{Delivery: delivery}, err
}

func (r *Resolver) replayDeliveries(ctx context.Context, in *model.ReplayDeliveriesInput) (*model.ReplayDeliveriesPayload, error) {
	replay := notify.Replay{IDs: in.Ids.Value(), All: in.Delivered}
	for _, id := range replay.IDs {
		if err := checkID(id, "ids", gid.WebhookDelivery); err != nil {
			return nil, err
		}
	}
	hook, since := in.Webhook.Value(), in.Since.Value()
	switch {
	case len(replay.IDs) > maxMarked:
		return nil, record.Refuse(lifecycle.Limit, "more than 1,000 deliveries by their ids", "ids")
	case len(replay.IDs) > 0 && (hook != nil || since != nil), len(replay.IDs) == 0 && hook == nil:
		return nil, badInput("either ids, or a webhook", "ids", "webhook")
	case hook != nil:
		if err := checkID(*hook, "webhook", gid.Webhook); err != nil {
			return nil, err
		}
		replay.Webhook, replay.Since = *hook, deref(since)
		if replay.Since.IsZero() {
			replay.Since = time.Unix(0, 0).UTC()
		}
	}
	n, err := r.Notify.ReplayDeliveries(ctx, replay)
	return &model.ReplayDeliveriesPayload{Replayed: int32(n)}, err //nolint:gosec // bounded
}

func (r *Resolver) departments(ctx context.Context, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.DepartmentConnection, error) {
	return r.client(ctx).Department.Query().Paginate(ctx, after, first, before, last)
}

// departmentMembers are read with one statement, and another for their users, for
// all departments that are shown together.
func (r *Resolver) departmentMembers(ctx context.Context, d *ent.Department) ([]*ent.User, error) {
	rows, list, err := listOf(ctx, d)
	if err != nil {
		return nil, err
	}
	members, err := once(ctx, listKey{list, "members"}, func() (map[gid.ID][]gid.ID, error) {
		return r.Notify.Members(ctx, collect(rows, func(d *ent.Department) *gid.ID { return &d.ID }))
	})
	if err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	users, err := once(ctx, listKey{list, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		var ids []gid.ID
		seen := map[gid.ID]bool{}
		for _, some := range members {
			for _, id := range some {
				if !seen[id] {
					ids, seen[id] = append(ids, id), true
				}
			}
		}
		return r.client(ctx).NodesByID(ctx, ids, &field)
	})
	out := []*ent.User{}
	for _, id := range members[d.ID] {
		if user, ok := users[id].(*ent.User); ok {
			out = append(out, user)
		}
	}
	return out, err
}

func checkIDs(ids []gid.ID, field string, of gid.Type) error {
	for _, id := range ids {
		if err := checkID(id, field, of); err != nil {
			return err
		}
	}
	return nil
}

func (r *Resolver) departmentPayload(ctx context.Context, id gid.ID) (*model.DepartmentPayload, error) {
	department, err := selected[*ent.Department](ctx, r, id, "department")
	return &model.DepartmentPayload{Department: department}, err
}

func checkWebhook(id *gid.ID) error {
	if id == nil {
		return nil
	}
	return checkID(*id, "webhook", gid.Webhook)
}

func (r *Resolver) createDepartment(ctx context.Context, in *model.CreateDepartmentInput) (*model.DepartmentPayload, error) {
	if err := firstOf(checkIDs(in.Members, "members", gid.User), checkWebhook(in.Webhook.Value())); err != nil {
		return nil, err
	}
	id, err := r.Notify.CreateDepartment(ctx, notify.Department{
		Name: in.Name, Address: in.Address, Interests: notify.Interests{Kinds: in.Kinds, Types: typesOf(in.Types.Value())}, Members: in.Members, Webhook: in.Webhook.Value(),
	})
	if err != nil {
		return nil, err
	}
	return r.departmentPayload(ctx, id)
}

func (r *Resolver) updateDepartment(ctx context.Context, in *model.UpdateDepartmentInput) (*model.DepartmentPayload, error) {
	if err := firstOf(checkID(in.ID, "id", gid.Department), checkIDs(in.Members.Value(), "members", gid.User), checkWebhook(in.Webhook.Value())); err != nil {
		return nil, err
	}
	err := r.Notify.UpdateDepartment(ctx, in.ID, int(in.Version), func(d *notify.Department) error {
		if in.Webhook.IsSet() {
			d.Webhook = in.Webhook.Value()
		}
		return firstOf(
			present(in.Name.IsSet(), in.Name.Value(), "name", &d.Name), present(in.Address.IsSet(), in.Address.Value(), "address", &d.Address),
			presentList(in.Kinds.IsSet(), in.Kinds.Value(), "kinds", func(kinds []notification.Kind) { d.Kinds = kinds }),
			presentList(in.Types.IsSet(), in.Types.Value(), "types", func(types []ent.RecordKind) { d.Types = typesOf(types) }),
			presentList(in.Members.IsSet(), in.Members.Value(), "members", func(members []gid.ID) { d.Members = members }),
		)
	})
	if err != nil {
		return nil, err
	}
	return r.departmentPayload(ctx, in.ID)
}

func (r *Resolver) removeDepartment(ctx context.Context, in *model.RemoveDepartmentInput) (*model.DepartmentPayload, error) {
	if err := checkID(in.ID, "id", gid.Department); err != nil {
		return nil, err
	}
	return &model.DepartmentPayload{}, r.Notify.RemoveDepartment(ctx, in.ID, int(in.Version))
}

func (r *Resolver) alertRules(ctx context.Context, after *ent.Cursor, first *int, before *ent.Cursor, last *int) (*ent.AlertRuleConnection, error) {
	return r.client(ctx).AlertRule.Query().Where(alertrule.RemovedAtIsNil()).Paginate(ctx, after, first, before, last)
}

// alertDepartments are the departments of a rule that are there still.
func (r *Resolver) alertDepartments(ctx context.Context, rule *ent.AlertRule) ([]*ent.Department, error) {
	rows, list, err := listOf(ctx, rule)
	if err != nil {
		return nil, err
	}
	field := graphql.GetFieldContext(ctx).Field
	found, err := once(ctx, listKey{list, alias(ctx)}, func() (map[gid.ID]ent.Noder, error) {
		var ids []gid.ID
		for _, row := range rows {
			for _, name := range row.Departments {
				if id, err := gid.Parse(name); err == nil {
					ids = append(ids, id)
				}
			}
		}
		return r.client(ctx).NodesByID(ctx, ids, &field)
	})
	out := []*ent.Department{}
	for _, name := range rule.Departments {
		id, parsed := gid.Parse(name)
		if department, ok := found[id].(*ent.Department); ok && parsed == nil {
			out = append(out, department)
		}
	}
	return out, err
}

func verbsOf(names []string) []lifecycle.Verb {
	out := make([]lifecycle.Verb, len(names))
	for i, name := range names {
		out[i] = lifecycle.Verb(name)
	}
	return out
}

func verbNames(verbs []lifecycle.Verb) []string {
	out := make([]string, len(verbs))
	for i, verb := range verbs {
		out[i] = string(verb)
	}
	return out
}

func numbers(list []int32) []int {
	out := make([]int, len(list))
	for i, n := range list {
		out[i] = int(n)
	}
	return out
}

func (r *Resolver) alertRulePayload(ctx context.Context, id gid.ID) (*model.AlertRulePayload, error) {
	rule, err := selected[*ent.AlertRule](ctx, r, id, "rule")
	return &model.AlertRulePayload{Rule: rule}, err
}

func (r *Resolver) createAlertRule(ctx context.Context, in *model.CreateAlertRuleInput) (*model.AlertRulePayload, error) {
	if err := checkIDs(in.Departments.Value(), "departments", gid.Department); err != nil {
		return nil, err
	}
	id, err := r.Notify.CreateAlertRule(ctx, notify.AlertRule{
		Name: in.Name, Kind: in.Kind, Count: int(in.Count), Minutes: int(in.Minutes), Verbs: verbNames(in.Verbs.Value()), FromHour: int(in.FromHour), ToHour: int(in.ToHour),
		Zone: in.Zone, Weekdays: numbers(in.Weekdays), Departments: in.Departments.Value(), Roles: in.Roles.Value(), Enabled: in.Enabled,
	})
	if err != nil {
		return nil, err
	}
	return r.alertRulePayload(ctx, id)
}

func (r *Resolver) updateAlertRule(ctx context.Context, in *model.UpdateAlertRuleInput) (*model.AlertRulePayload, error) {
	if err := firstOf(checkID(in.ID, "id", gid.AlertRule), checkIDs(in.Departments.Value(), "departments", gid.Department)); err != nil {
		return nil, err
	}
	whole := func(o graphql.Omittable[*int32], field string, into *int) error {
		n := int32(*into) //nolint:gosec // bounded
		err := present(o.IsSet(), o.Value(), field, &n)
		*into = int(n)
		return err
	}
	err := r.Notify.UpdateAlertRule(ctx, in.ID, int(in.Version), func(rule *notify.AlertRule) error {
		return firstOf(
			present(in.Name.IsSet(), in.Name.Value(), "name", &rule.Name), present(in.Zone.IsSet(), in.Zone.Value(), "zone", &rule.Zone), present(in.Enabled.IsSet(), in.Enabled.Value(), "enabled", &rule.Enabled),
			whole(in.Count, "count", &rule.Count), whole(in.Minutes, "minutes", &rule.Minutes), whole(in.FromHour, "fromHour", &rule.FromHour), whole(in.ToHour, "toHour", &rule.ToHour),
			presentList(in.Verbs.IsSet(), in.Verbs.Value(), "verbs", func(verbs []lifecycle.Verb) { rule.Verbs = verbNames(verbs) }),
			presentList(in.Weekdays.IsSet(), in.Weekdays.Value(), "weekdays", func(days []int32) { rule.Weekdays = numbers(days) }),
			presentList(in.Departments.IsSet(), in.Departments.Value(), "departments", func(ids []gid.ID) { rule.Departments = ids }),
			presentList(in.Roles.IsSet(), in.Roles.Value(), "roles", func(roles []string) { rule.Roles = roles }),
		)
	})
	if err != nil {
		return nil, err
	}
	return r.alertRulePayload(ctx, in.ID)
}

func (r *Resolver) removeAlertRule(ctx context.Context, in *model.RemoveAlertRuleInput) (*model.AlertRulePayload, error) {
	if err := checkID(in.ID, "id", gid.AlertRule); err != nil {
		return nil, err
	}
	if err := r.Notify.RemoveAlertRule(ctx, in.ID, int(in.Version)); err != nil {
		return nil, err
	}
	return r.alertRulePayload(ctx, in.ID)
}
