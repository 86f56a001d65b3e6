package transport

import (
	"context"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
)

// Limits bound one request. All numbers are inclusive. Fragments count as
// often as they are spread.
type Limits struct {
	// Body of a request, in bytes. It is enforced by Front and POST: give it to
	// them as well.
	Body int
	// Tokens of the document. It is enforced by gqlgen's parser: give it to
	// SetParserTokenLimit as well.
	Tokens int
	// Operations in the document, executed or not: each is validated.
	Operations int
	// Depth is levels of fields, leaves included.
	Depth int
	// Aliases are fields that have another name in the answer.
	Aliases int
	// RootFields of an operation, so the calls in a mutation.
	RootFields int
	// Directives anywhere in an operation.
	Directives int
	// Fields of an operation.
	Fields int
	// MergeWork is the number of selections and of pairs of fields with one
	// response name that validation compares. It takes about 0.12 µs a pair,
	// so 5,000 tokens of one repeated field would take 1.5 s.
	MergeWork int
	// Cost is values in the answer, were every page full: a list costs as many
	// times its child as first or last say, or as it has ids in its arguments.
	Cost int
	// PageSize is the largest value of an argument named first or last, and 100
	// at most, which is what the lists themselves hold to.
	PageSize int
	// IDs in all arguments, references such as {id, version} included.
	IDs int
	// InputDepth is levels of objects in an argument.
	InputDepth int
	// InputNodes are objects and values in all objects and lists of all
	// arguments, except what is counted by IDs.
	InputNodes int
}

// DefaultLimits are those of the specification, GRAPHQL.md section 4.
func DefaultLimits() Limits {
	return Limits{
		Body:       1 << 20,
		Tokens:     5_000,
		Operations: 20,
		Depth:      15,
		Aliases:    60,
		RootFields: 20,
		Directives: 50,
		Fields:     10_000,
		MergeWork:  50_000,
		Cost:       200_000,
		PageSize:   maxPageSize,
		IDs:        1_000,
		InputDepth: 20,
		InputNodes: 1_000,
	}
}

const maxPageSize = 100

// introspectionLimits bound what is below __schema and __type. They are fixed,
// because what they must allow is: the query of graphql-js' and GraphiQL's
// getIntrospectionQuery has 15 levels, 230 fields, no alias, and three lists in
// one another (the arguments of the fields of the types). Answers come from
// memory, but each list in a list multiplies what is said of the whole schema.
var introspectionLimits = tally{
	depth: 16, lists: 3, aliases: 10, roots: 3, directives: 10, fields: 1_000,
}

// Limiter is an extension that refuses requests over its Limits.
//
// What the text of a document shows is checked before gqlparser validates it,
// because validation itself is what some documents are made to exhaust; what
// needs variables and types is checked before execution. Each fragment and
// each variable is walked once, so the work is linear in the request.
type Limiter struct {
	limits    Limits
	validated graphql.Cache[*ast.QueryDocument]
	schema    *ast.Schema
}

var _ interface {
	graphql.OperationParameterMutator
	graphql.OperationContextMutator
} = (*Limiter)(nil)

// NewLimiter returns a limiter. The cache is the one given to SetQueryCache:
// a document in it passed before and is not parsed again. It may be nil.
func NewLimiter(limits Limits, validated graphql.Cache[*ast.QueryDocument]) *Limiter {
	if validated == nil {
		validated = graphql.NoCache[*ast.QueryDocument]{}
	}
	return &Limiter{limits: limits, validated: validated}
}

// ExtensionName implements graphql.HandlerExtension.
func (*Limiter) ExtensionName() string { return "Limiter" }

// Validate implements graphql.HandlerExtension.
func (l *Limiter) Validate(schema graphql.ExecutableSchema) error {
	l.schema = schema.Schema()
	return nil
}

// MutateOperationParameters implements graphql.OperationParameterMutator.
func (l *Limiter) MutateOperationParameters(ctx context.Context, params *graphql.RawParams) *gqlerror.Error {
	if err := l.checkVariables(params.Variables); err != nil {
		return err
	}
	if _, ok := l.validated.Get(ctx, params.Query); ok {
		return nil
	}
	document, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: params.Query}, l.limits.Tokens)
	if err != nil {
		switch { // the errors have no type
		case strings.Contains(err.Error(), "exceeded token limit"):
			return exceeds(l.limits.Tokens+1, l.limits.Tokens, nil, "tokens")
		case strings.Contains(err.Error(), "exceeded maximum nesting depth"):
			return exceeds(l.limits.Depth+1, l.limits.Depth, nil, "levels")
		}
		return nil
	}
	if err := l.checkLiterals(document); err != nil {
		return err
	}
	return l.checkDocument(document)
}

// MutateOperationContext implements graphql.OperationContextMutator.
func (l *Limiter) MutateOperationContext(_ context.Context, operation *graphql.OperationContext) *gqlerror.Error {
	return firstError(
		l.checkInputs(operation.Operation, operation.Variables),
		l.checkCost(operation.Operation, operation.Variables),
	)
}

// exceeds refuses what is over a limit.
func exceeds(got, limit int, at *ast.Position, what string) *gqlerror.Error {
	if got <= limit {
		return nil
	}
	return refuse(CodeQueryLimit, at, "The request has too many %s: at most %d are allowed.", what, limit)
}

func firstError(errs ...*gqlerror.Error) *gqlerror.Error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
