package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Config is one member of a chain as the configuration file has it.
type Config struct {
	Name    string          `json:"name"`
	Kind    string          `json:"kind"`
	Role    Role            `json:"role"`
	OnError Fallback        `json:"on_error"`
	NoPlan  Fallback        `json:"no_plan"`
	Timeout string          `json:"timeout"` // as time.ParseDuration reads it; empty is DefaultTimeout
	Config  json.RawMessage `json:"config"`  // for the plugin
}

// BuildChain builds the members and their chain. Plugins that need parts of the application (a database, a
// schema) cannot register themselves: their factories are given in own, which is looked at first. What was built is
// closed again when the whole cannot be.
func BuildChain(ctx context.Context, members []Config, own map[string]Factory, sink Sink) (_ *Chain, err error) {
	built := make([]Member, 0, len(members))
	defer func() {
		if err != nil {
			err = errors.Join(err, (&closing{members: built}).close())
		}
	}()
	for _, c := range members {
		m := Member{Name: c.Name, Role: c.Role, OnError: c.OnError, NoPlan: c.NoPlan}
		if c.Timeout != "" {
			if m.Timeout, err = time.ParseDuration(c.Timeout); err != nil {
				return nil, fmt.Errorf("authz: plugin %q: timeout: %w", c.Name, err)
			}
			if m.Timeout <= 0 {
				return nil, fmt.Errorf("authz: plugin %q: timeout %q is not positive", c.Name, c.Timeout)
			}
		}
		if f, ok := own[c.Kind]; ok {
			if m.Plugin, err = f.build(ctx, c.Kind, c.Name, c.Config); err != nil {
				return nil, err
			}
		} else if m.Plugin, err = New(ctx, c.Kind, c.Name, c.Config); err != nil {
			return nil, err
		}
		built = append(built, m)
	}
	return NewChain(sink, built...)
}

// Role says which answers of a member count. The zero value cannot widen access.
type Role uint8

// The roles of a member.
const (
	Veto   Role = iota // only its Deny counts
	Grant              // its Permit counts as well
	Shadow             // none counts; it is only reported
)

var roleNames = []string{Veto: "veto", Grant: "grant", Shadow: "shadow"}

// UnmarshalText reads the name of a role.
func (r *Role) UnmarshalText(text []byte) error { return unmarshalName(r, roleNames, text) }

// Fallback says what a member that gave no answer counts as. The zero value is Deny.
type Fallback uint8

// The fallbacks.
const (
	FallbackDeny Fallback = iota
	FallbackSkip          // as if the member were not in the chain
)

var fallbackNames = []string{FallbackDeny: "deny", FallbackSkip: "skip"}

// UnmarshalText reads the name of a fallback.
func (f *Fallback) UnmarshalText(text []byte) error { return unmarshalName(f, fallbackNames, text) }

func unmarshalName[T ~uint8](v *T, names []string, text []byte) error {
	for i, name := range names {
		if name == string(text) {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of %v", text, names)
}
