package record

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/store"
)

// Shortening is a change by which records would be kept for less time, as it waits for others to agree: of a retention
// rule, or of settings.
type Shortening struct {
	// Rule is the rule that would change, and To what it would say then: nil if it would go.
	Rule gid.ID         `json:"rule,omitzero"`
	To   *RetentionRule `json:"to,omitempty"`
	// Changed are the fields of the rule that would change.
	Changed []string `json:"changed,omitempty"`
	// Settings are those that would change, by name, and Was what they are. Null is no cap.
	Settings map[string]*int `json:"settings,omitempty"`
	Was      map[string]*int `json:"was,omitempty"`
	// Version is the one that is changed, of the rule or of the settings.
	Version int `json:"version"`
}

// ShorteningOf is the change that a request is about.
func ShorteningOf(ap *ent.Approval) (*Shortening, error) {
	var asked Shortening
	if err := json.Unmarshal(ap.Payload, &asked); err != nil {
		return nil, fmt.Errorf("reading what is asked for: %w", err)
	}
	return &asked, nil
}

// shortening carries such changes out.
type shortening struct{ *Service }

// askToShorten asks others for a change, if there are rules about it and they have not agreed yet, and answers the request.
func (s *Service) askToShorten(ctx context.Context, tx *store.Tx, change *Shortening, reason string, agreed *ent.Approval) (gid.ID, error) {
	if agreed != nil {
		return gid.Nil, nil
	}
	frozen, err := json.Marshal(change)
	if err != nil {
		return gid.Nil, fmt.Errorf("encoding a request: %w", err)
	}
	return s.Request(ctx, tx, approval.SubjectSHORTEN_RETENTION, Ask{Payload: frozen, Reason: reason})
}

// MayDecide implements Approvable.
func (s shortening) MayDecide(ctx context.Context, _ *store.Tx, a *actor.Actor, _ *ent.Approval) error {
	if s.control.May(ctx, a, access.Question{Action: authz.Approve, Type: ent.TypeRetentionRule}) {
		return nil
	}
	return Refuse(lifecycle.Forbidden, "you may not approve changes of retention", "id")
}

// Carry implements Approvable.
func (s shortening) Carry(ctx context.Context, tx *store.Tx, ap *ent.Approval) error {
	asked, err := ShorteningOf(ap)
	if err != nil {
		return err
	}
	a := actor.From(ctx)
	switch {
	case asked.Settings != nil:
		_, _, err = s.updateSettings(ctx, tx, a, asked.Version, asked.Settings, ap)
	case asked.To == nil:
		_, err = s.removeRetentionRule(ctx, tx, a, asked.Rule, asked.Version, ap)
	default:
		_, err = s.updateRetentionRule(ctx, tx, a, asked.Rule, asked.Version, func(r *RetentionRule) error { *r = *asked.To; return nil }, ap)
	}
	return err
}

// movedOn is the refusal of a change of what is not at the version that it was seen at.
func movedOn(what string, version int, agreed *ent.Approval) *Error {
	code := lifecycle.Conflict
	if agreed != nil { // by those who agreed
		code = lifecycle.Stale
	}
	return &Error{Code: code, Message: "the " + what + " not at this version any more", Fields: []string{"version"}, Extensions: map[string]any{"version": version}}
}
