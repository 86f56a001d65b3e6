package authz

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Action is what a subject wants to do. The application asks for those of the catalogue below; a request that
// comes in over AuthZEN may name any.
type Action string

// The catalogue. No action implies another.
const (
	Read          Action = "read"
	ReadRetired   Action = "read_retired"
	Create        Action = "create"
	Update        Action = "update"
	Delete        Action = "delete"
	Void          Action = "void"
	Archive       Action = "archive"
	Suspend       Action = "suspend"
	Restore       Action = "restore"
	Purge         Action = "purge"
	Erase         Action = "erase"
	Export        Action = "export"
	ExportRead    Action = "export.read"
	Import        Action = "import"
	HoldPlace     Action = "hold.place"
	HoldRelease   Action = "hold.release"
	HoldRead      Action = "hold.read"
	RetentionEdit Action = "retention.edit"
	Approve       Action = "approve"
	AuditRead     Action = "audit.read"
	AuditVerify   Action = "audit.verify"
	PolicyRead    Action = "policy.read"
	PolicyEdit    Action = "policy.edit"
	UserEdit      Action = "user.edit"
	TeamEdit      Action = "team.edit"
	TokenEdit     Action = "token.edit"
	WebhookEdit   Action = "webhook.edit"
	AlertEdit     Action = "alert.edit"
	SettingsEdit  Action = "settings.edit"
	OperationRead Action = "operation.read"
	Statistics    Action = "statistics.read"
	SchemaRead    Action = "schema.read"
	Evaluate      Action = "authz.evaluate"
)

var actions = []Action{
	Read, ReadRetired, Create, Update, Delete, Void, Archive, Suspend, Restore, Purge, Erase, Export, ExportRead, Import,
	HoldPlace, HoldRelease, HoldRead, RetentionEdit, Approve, AuditRead, AuditVerify, PolicyRead, PolicyEdit,
	UserEdit, TeamEdit, TokenEdit, WebhookEdit, AlertEdit, SettingsEdit, OperationRead, Statistics, SchemaRead, Evaluate,
}

// restricted cannot be undone, or give away the right to everything else.
var restricted = []Action{Purge, Erase, HoldRelease, PolicyEdit}

// Actions returns the catalogue, in its order.
func Actions() []Action { return slices.Clone(actions) }

// Restricted returns the actions that a wildcard never includes.
func Restricted() []Action { return slices.Clone(restricted) }

// IsRestricted reports whether a wildcard leaves the action out.
func (a Action) IsRestricted() bool { return slices.Contains(restricted, a) }

// Known reports whether the action is in the catalogue.
func (a Action) Known() bool { return slices.Contains(actions, a) }

// MarshalGQL writes the enum value: upper case, with an underscore for a dot.
func (a Action) MarshalGQL(w io.Writer) {
	_, _ = io.WriteString(w, strconv.Quote(a.enum())) // the interface of gqlgen has no way to report it
}

// UnmarshalGQL reads the enum value of an action in the catalogue.
func (a *Action) UnmarshalGQL(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("action must be a string, not %T", v)
	}
	i := slices.IndexFunc(actions, func(known Action) bool { return known.enum() == s })
	if i < 0 {
		return fmt.Errorf("%q is not an action", s)
	}
	*a = actions[i]
	return nil
}

func (a Action) enum() string { return strings.ToUpper(strings.ReplaceAll(string(a), ".", "_")) }
