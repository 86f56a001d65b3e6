package transport

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator/core"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// What of a request is echoed in errors about it: that many errors, and that
// many bytes of each message and each element of a path. A document of 1 MB
// may consist of one wrong name, or of thousands.
const (
	maxErrors  = 20
	maxMessage = 500
	maxElement = 100
)

// Redact is an extension that shortens errors about a request, and cuts the
// suggestions in them for callers who may not introspect.
type Redact struct {
	// MaySuggest reports whether the caller may see names of the schema that
	// the request did not contain. Nil means nobody may.
	MaySuggest func(context.Context) bool
}

var _ graphql.ResponseInterceptor = Redact{}

// ExtensionName implements graphql.HandlerExtension.
func (Redact) ExtensionName() string { return "Redact" }

// Validate implements graphql.HandlerExtension.
func (Redact) Validate(graphql.ExecutableSchema) error { return nil }

// InterceptResponse implements graphql.ResponseInterceptor.
func (r Redact) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	response := next(ctx)
	if response == nil || len(response.Errors) == 0 {
		return response
	}
	if r.MaySuggest == nil || !r.MaySuggest(ctx) {
		response.Errors = StripSuggestions(response.Errors)
	}
	response.Errors = shorten(response.Errors)
	return response
}

// StripSuggestions returns the errors without what gqlparser adds to help with
// typing errors, which tells names of the schema to who guesses. Only errors
// with the code GRAPHQL_VALIDATION_FAILED have suggestions.
func StripSuggestions(errs gqlerror.List) gqlerror.List {
	return rewrite(errs, func(err *gqlerror.Error) {
		if err.Extensions["code"] == errcode.ValidationFailed {
			err.Message, _, _ = strings.Cut(err.Message, " Did you mean ")
		}
	})
}

// shorten bounds errors about the request's text. Errors of resolvers are the
// server's own words and all of them are kept.
func shorten(errs gqlerror.List) gqlerror.List {
	aboutText := func(err *gqlerror.Error) bool {
		code := err.Extensions["code"]
		return code == errcode.ParseFailed || code == errcode.ValidationFailed
	}
	if len(errs) > maxErrors && aboutText(errs[0]) {
		errs = errs[:maxErrors]
	}
	return rewrite(errs, func(err *gqlerror.Error) {
		if !aboutText(err) {
			return
		}
		err.Message = clip(err.Message, maxMessage)
		path := make(ast.Path, len(err.Path))
		for i, element := range err.Path {
			if name, ok := element.(ast.PathName); ok {
				element = ast.PathName(clip(string(name), maxElement))
			}
			path[i] = element
		}
		err.Path = path
	})
}

func rewrite(errs gqlerror.List, change func(*gqlerror.Error)) gqlerror.List {
	changed := make(gqlerror.List, len(errs))
	for i, err := range errs {
		if err != nil {
			c := *err
			change(&c)
			changed[i] = &c
		}
	}
	return changed
}

func clip(text string, size int) string {
	if len(text) <= size {
		return text
	}
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size] + "…"
}

// ValidationRules are gqlparser's, without suggestions for anybody. Looking
// for similar names costs the product of the wrong names in a document and the
// names of the schema: 3.7 s for 1,660 wrong keys of 250 bytes in an input
// object with 300 fields, measured with gqlparser 2.5.64. Tools that know the
// schema suggest better. Give it to SetValidationRulesFn together with
// SetDisableSuggestion(true), or gqlgen puts two of the rules back.
func ValidationRules() *rules.Rules {
	chosen := rules.NewDefaultRules()
	for talkative, quiet := range map[string]core.Rule{
		rules.FieldsOnCorrectTypeRule.Name: rules.FieldsOnCorrectTypeRuleWithoutSuggestions,
		rules.KnownArgumentNamesRule.Name:  rules.KnownArgumentNamesRuleWithoutSuggestions,
		rules.KnownTypeNamesRule.Name:      rules.KnownTypeNamesRuleWithoutSuggestions,
		rules.ScalarLeafsRule.Name:         rules.ScalarLeafsRuleWithoutSuggestions,
		rules.ValuesOfCorrectTypeRule.Name: rules.ValuesOfCorrectTypeRuleWithoutSuggestions,
	} {
		chosen.RemoveRule(talkative)
		chosen.AddRule(quiet.Name, quiet.RuleFunc)
	}
	return chosen
}
