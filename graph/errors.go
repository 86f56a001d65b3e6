package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/gid"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/store"
	"github.com/lethe-crm/lethe/internal/telemetry"
	"github.com/lethe-crm/lethe/internal/transport"
)

// badInput is an error about an argument.
func badInput(message string, fields ...string) error {
	return record.Refuse(lifecycle.BadUserInput, message, fields...)
}

// checkID refuses an id of another type than the one meant.
func checkID(id gid.ID, field string, types ...gid.Type) error {
	for _, t := range types {
		if id.Type() == t {
			return nil
		}
	}
	return badInput(fmt.Sprintf("is no id of a %s", types[0]), field)
}

// present is the one place where errors get the form clients see. The text of
// an error that was not made for clients goes to the log only.
func (c Config) present(ctx context.Context, err error) *gqlerror.Error {
	out := &gqlerror.Error{}
	var located *gqlerror.Error
	if errors.As(err, &located) {
		out.Path, out.Locations = located.Path, located.Locations
	} else if graphql.GetFieldContext(ctx) != nil {
		out.Path = graphql.GetPath(ctx)
	}
	extensions := map[string]any{}
	var refused *record.Error
	argument, isArgument := argumentOf(ctx, out.Path)
	switch code := coded(located); {
	case errors.As(err, &refused):
		maps.Copy(extensions, refused.Extensions)
		out.Message, extensions["code"] = inWords(ctx, refused.Message), string(refused.Code)
		if len(refused.Fields) > 0 {
			extensions["fields"] = refused.Fields
		}
	case code != "":
		maps.Copy(extensions, located.Extensions)
		out.Message = located.Message
	case isArgument:
		out.Message, out.Path = "is not a valid value", graphql.GetPath(ctx)
		if errors.Is(err, gid.ErrMalformed) {
			out.Message = "is not an id"
		}
		out.Message = argument + ": " + out.Message
		extensions["code"], extensions["fields"] = string(lifecycle.BadUserInput), []string{argument}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(ctx.Err(), context.DeadlineExceeded):
		out.Message, extensions["code"] = inWords(ctx, "The operation took too long."), transport.CodeQueryLimit
	default:
		level := slog.LevelError
		if s := sharedOf(ctx); s != nil && store.Busy(err) {
			s.busy.Store(true)
			level = slog.LevelWarn // it is tried again
		}
		out.Message, extensions["code"] = inWords(ctx, "Something went wrong on our side."), string(lifecycle.Internal)
		if !errors.Is(err, context.Canceled) { // the client has gone
			c.Log.Log(ctx, level, "a request failed", "error", err, "path", out.Path.String())
		}
	}
	if id := c.requestID(ctx); id != "" {
		extensions["requestID"] = id
	}
	if id := telemetry.TraceID(ctx); id != "" {
		extensions["traceID"] = id
	}
	out.Extensions = extensions
	return out
}

// recovered turns a panic into an error, which is then presented.
func (c Config) recovered(ctx context.Context, value any) error {
	c.Log.ErrorContext(ctx, "a resolver panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	return record.Refuse(lifecycle.Internal, "Something went wrong on our side.")
}

func (c Config) requestID(ctx context.Context) string {
	if a := actor.From(ctx); a != nil {
		return a.RequestID
	}
	if c.RequestID != nil {
		return c.RequestID(ctx)
	}
	return ""
}

func coded(err *gqlerror.Error) string {
	if err == nil {
		return ""
	}
	code, _ := err.Extensions["code"].(string)
	return code
}

// argumentOf says which argument an error is about. gqlgen reports an argument
// that cannot be read at a path that goes on from the field into its arguments.
func argumentOf(ctx context.Context, path ast.Path) (string, bool) {
	field := graphql.GetFieldContext(ctx)
	if field == nil {
		return "", false
	}
	own := field.Path()
	if len(path) <= len(own) {
		return "", false
	}
	var name strings.Builder
	for _, element := range path[len(own):] {
		switch element := element.(type) {
		case ast.PathName:
			if name.Len() > 0 {
				name.WriteByte('.')
			}
			name.WriteString(string(element))
		case ast.PathIndex:
			fmt.Fprintf(&name, "[%d]", int(element))
		}
	}
	return name.String(), true
}
