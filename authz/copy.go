package authz

import (
	"maps"
	"reflect"
	"slices"
)

// ReadOnly is implemented by plugins that change nothing in the requests they are given, and keep none beyond the
// call. They get the maps that all members share; other plugins get copies of their own.
type ReadOnly interface {
	ReadOnly()
}

// ownCopy is the requests as a member may have them: one that outlives its timeout must not see what the caller
// does next, and none may change what another sees.
func ownCopy(m Member, reqs []Request) []Request {
	own := slices.Clone(reqs)
	if _, ok := m.Plugin.(ReadOnly); ok {
		return own
	}
	var subject, action, resource, environment lastCopy
	for i := range own {
		r := &own[i]
		r.Subject.Props = subject.of(r.Subject.Props)
		r.ActionProps = action.of(r.ActionProps)
		r.Resource.Props = resource.of(r.Resource.Props)
		r.Context = environment.of(r.Context)
	}
	return own
}

// lastCopy copies a map once where it comes several times in a row, as those of a batch's subject do.
type lastCopy struct{ from, to map[string]any }

func (l *lastCopy) of(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	if l.from == nil || reflect.ValueOf(l.from).Pointer() != reflect.ValueOf(m).Pointer() {
		l.from, l.to = m, copyMap(m)
	}
	return l.to
}

func copyMap(m map[string]any) map[string]any {
	out := maps.Clone(m)
	for k, v := range out {
		switch v.(type) {
		case []string, []any, map[string]any:
			out[k] = copyValue(v)
		}
	}
	return out
}

// copyValue copies what a value of JSON can hold others in, and the lists of text that subjects have.
func copyValue(v any) any {
	switch x := v.(type) {
	case []string:
		return slices.Clone(x)
	case []any:
		out := slices.Clone(x)
		for i := range out {
			out[i] = copyValue(out[i])
		}
		return out
	case map[string]any:
		return copyMap(x)
	}
	return v
}
