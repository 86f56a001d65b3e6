package graph

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/graph/generated"
	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/lifecycle"
	"github.com/lethe-crm/lethe/internal/record"
	"github.com/lethe-crm/lethe/internal/transport"
	"github.com/lethe-crm/lethe/internal/visible"
)

// admission lets in who is signed in, and gives his operation the rows he may
// see under one version of the policy.
type admission struct {
	Config
	fields usedFields
}

var _ interface {
	graphql.OperationParameterMutator
	graphql.OperationContextMutator
	graphql.OperationInterceptor
	graphql.ResponseInterceptor
} = admission{}

// ExtensionName implements graphql.HandlerExtension.
func (admission) ExtensionName() string { return "Admission" }

// Validate implements graphql.HandlerExtension.
func (admission) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationParameters implements graphql.OperationParameterMutator.
func (admission) MutateOperationParameters(ctx context.Context, params *graphql.RawParams) *gqlerror.Error {
	if actor.From(ctx) != nil {
		return nil
	}
	graphql.GetOperationContext(ctx).Headers = params.Headers
	return &gqlerror.Error{Message: inWords(ctx, "Sign in first."), Extensions: map[string]any{"code": transport.CodeUnauthenticated}}
}

// MutateOperationContext implements graphql.OperationContextMutator.
func (a admission) MutateOperationContext(ctx context.Context, op *graphql.OperationContext) *gqlerror.Error {
	if !transport.Introspects(op.Operation) {
		return nil // and stays disabled
	}
	if !a.mayIntrospect(ctx) {
		return a.present(ctx, a.refuseSchema(ctx))
	}
	op.DisableIntrospection = false
	return nil
}

// InterceptOperation implements graphql.OperationInterceptor.
func (a admission) InterceptOperation(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	who := actor.From(ctx)
	pinned, err := a.Control.Pin(ctx, who.Tenant)
	if err != nil {
		a.Log.ErrorContext(ctx, "the policy could not be read", "error", err)
		return graphql.OneShot(a.refusal(ctx, record.Refuse(lifecycle.AuthzUnavailable, "Access could not be decided; try again.")))
	}
	rows := a.Control.Rows(pinned, who)
	ctx = visible.With(pinned, rows)
	if refused := a.refuseHidden(ctx, rows); refused != nil {
		return graphql.OneShot(refused)
	}
	ctx = withShared(ent.WithRecordHost(ctx, host{a.Config}))
	if graphql.GetOperationContext(ctx).Operation.Operation == ast.Subscription {
		return a.subscribed(ctx, next)
	}
	return next(ctx)
}

// refusal is an answer without data.
func (c Config) refusal(ctx context.Context, err error) *graphql.Response {
	return &graphql.Response{Errors: gqlerror.List{c.present(ctx, err)}}
}

// shared is what the resolvers of one operation know together, so that what all
// rows of a list need is read once.
type shared struct {
	mu       sync.Mutex
	loads    map[any]*load
	together map[*ent.AuditEvent]*events
	// masked are the places in the answer where a value was withheld.
	masked map[string]ast.Path
	// busy says that a statement failed for want of a lock.
	busy atomic.Bool
}

type sharedKey struct{}

func withShared(ctx context.Context) context.Context {
	s := &shared{loads: map[any]*load{}, together: map[*ent.AuditEvent]*events{}}
	return generated.WithNote(context.WithValue(ctx, sharedKey{}, s), s.noteMasked)
}

// sharedOf is nil outside of operations.
func sharedOf(ctx context.Context) *shared {
	s, _ := ctx.Value(sharedKey{}).(*shared)
	return s
}

type load struct {
	once  sync.Once
	value any
	err   error
}

// once reads something for the first resolver that asks for key, and answers
// the others the same.
func once[T any](ctx context.Context, key any, read func() (T, error)) (T, error) {
	s := sharedOf(ctx)
	s.mu.Lock()
	l := s.loads[key]
	if l == nil {
		l = &load{}
		s.loads[key] = l
	}
	s.mu.Unlock()
	l.once.Do(func() { l.value, l.err = read() })
	v, _ := l.value.(T)
	return v, l.err
}
