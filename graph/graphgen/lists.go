package graphgen

import (
	"fmt"
	"regexp"
)

// hookLists lets a list of objects be written as one.
func hookLists(source string, objects []*Object) string {
	for _, o := range objects {
		head := regexp.MustCompile(`func \(ec \*executionContext\) marshal[NO]` + o.Name + `2ᚕᚖ\S+\(ctx context\.Context, sel ast\.SelectionSet, v \[\]` +
			regexp.QuoteMeta(pointerTo(o)) + `\) graphql\.Marshaler \{\n`)
		direct := fmt.Sprintf(`	if fields := ec.direct%[1]s(ctx, sel); fields != nil && v != nil {
		return writeList(v, func(w io.Writer, obj %[2]s) { ec.write%[1]s(w, fields, obj) })
	}
`, o.Name, pointerTo(o))
		source = head.ReplaceAllStringFunc(source, func(found string) string { return found + direct })
	}
	return source
}

var arguments = regexp.MustCompile(`if fc\.Args, err = ec\.(field_([A-Za-z]+)_\w+_args)\(ctx, field\.ArgumentMap\(ec\.Variables\)\); err != nil`)

// keepArguments reads the arguments of a field below a list once and not for
// each element: they are the same for all.
func keepArguments(source string) string {
	return arguments.ReplaceAllStringFunc(source, func(found string) string {
		m := arguments.FindStringSubmatch(found)
		if m[2] == "Query" || m[2] == "Mutation" || m[2] == "Subscription" {
			return found
		}
		return fmt.Sprintf("if fc.Args, err = ec.direct.arguments(ctx, field, ec.Variables, ec.%s); err != nil", m[1])
	})
}
