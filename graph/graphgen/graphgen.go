// Package graphgen generates the executable schema: gqlgen's, and beside it the
// code that writes plain answers directly.
//
// gqlgen resolves every field on its own: a context, some closures and a
// goroutine for each element of a list. Most of an answer are columns of rows
// that are loaded by then. Where all that is selected below a field is of that
// kind, the answer is written straight from the rows; everything else takes
// gqlgen's way. The bench has the figures.
package graphgen

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	_ "embed"

	"github.com/99designs/gqlgen/api"
	"github.com/99designs/gqlgen/codegen"
	"github.com/99designs/gqlgen/codegen/config"
	"github.com/99designs/gqlgen/codegen/templates"
	"github.com/vektah/gqlparser/v2/ast"
	"golang.org/x/tools/imports"
)

// Generate writes the executable schema, the models and the resolvers' stubs.
func Generate(cfg *config.Config) error {
	seen := &observer{}
	if err := api.Generate(cfg, api.AddPlugin(seen)); err != nil {
		return fmt.Errorf("running gqlgen: %w", err)
	}
	objects := directObjects(seen.data)
	if err := writeDirect(cfg, objects); err != nil {
		return err
	}
	return hook(cfg.Exec.Filename, objects)
}

// observer is a plugin that keeps what gqlgen knows of the schema.
type observer struct{ data *codegen.Data }

// Name implements gqlgen's plugin.Plugin.
func (*observer) Name() string { return "direct" }

// GenerateCode implements gqlgen's plugin.CodeGenerator.
func (o *observer) GenerateCode(data *codegen.Data) error {
	o.data = data
	return nil
}

// Object is a type whose fields can be written directly.
type Object struct {
	*codegen.Object
	Fields []*Field
}

// Record reports whether the type is a record type, some fields of which may be hidden from the reader.
func (o *Object) Record() bool {
	return slices.ContainsFunc(o.Implements, func(d *ast.Definition) bool { return d.Name == "Record" })
}

// Field is a field that is read from its object without a context, arguments,
// or an error.
type Field struct {
	*codegen.Field
	Index int
}

// Value is the expression that reads the field of obj.
func (f *Field) Value() string {
	if f.IsMethod() {
		return "obj." + f.GoFieldName + "()"
	}
	return "obj." + f.GoFieldName
}

// Go is the Go type, by which the template knows the common ones.
func (f *Field) Go() string { return f.TypeReference.GO.String() }

// Leaf reports whether the field is a scalar or an enum.
func (f *Field) Leaf() bool { return f.TypeReference.Definition.IsLeafType() }

// List reports whether the field is a list of objects.
func (f *Field) List() bool { return f.TypeReference.GQL.Elem != nil }

// Pointer is the type of a list's elements.
func (f *Field) Pointer() string { return name(f.TypeReference.Elem().GO.String()) }

// directObjects are the types with fields that can be written directly.
func directObjects(data *codegen.Data) []*Object {
	var out []*Object
	for _, o := range data.Objects {
		if o.Root || o.Kind != ast.Object || strings.HasPrefix(o.Name, "__") || o.IsReserved() {
			continue
		}
		object := &Object{Object: o}
		for _, f := range o.Fields {
			if readable(f) {
				object.Fields = append(object.Fields, &Field{f, len(object.Fields) + 1})
			}
		}
		if len(object.Fields) > 0 {
			out = append(out, object)
		}
	}
	// What a field leads to must be one of them.
	known := map[string]bool{}
	for _, o := range out {
		known[o.Name] = true
	}
	for _, o := range out {
		kept := o.Fields[:0]
		for _, f := range o.Fields {
			if f.Leaf() || known[f.TypeReference.Definition.Name] {
				kept = append(kept, f)
			}
		}
		o.Fields = kept
	}
	return out
}

func readable(f *codegen.Field) bool {
	plain := f.IsVariable() || f.IsMethod() && !f.MethodHasContext && f.NoErr && !f.VOkFunc
	if !plain || f.IsResolver || len(f.Args) > 0 || f.HasDirectives() || f.IsReserved() {
		return false
	}
	t := f.TypeReference
	switch {
	case t.Definition.IsLeafType():
		// A null where none may be has to reach gqlgen, which tells the parent.
		return t.GQL.Elem == nil && (!t.GQL.NonNull || !t.IsNilable())
	case t.Definition.Kind != ast.Object:
		return false // an interface or a union is told apart by gqlgen
	case t.GQL.Elem != nil:
		return t.IsSlice() && t.Elem().IsPtr()
	}
	return true
}

//go:embed direct.gotpl
var directTemplate string

// writeDirect writes direct.go beside the executable schema.
func writeDirect(cfg *config.Config, objects []*Object) error {
	t, err := template.New("direct").Funcs(template.FuncMap{"lcFirst": templates.LcFirst, "ref": pointerTo}).Parse(directTemplate)
	if err != nil {
		return fmt.Errorf("reading the template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, map[string]any{"Package": cfg.Exec.Package, "Objects": objects}); err != nil {
		return fmt.Errorf("writing the direct code: %w", err)
	}
	return save(filepath.Join(filepath.Dir(cfg.Exec.Filename), "direct.go"), b.Bytes())
}

// save writes Go code with the imports it needs.
func save(filename string, source []byte) error {
	formatted, err := imports.Process(filename, source, nil)
	if err != nil {
		return fmt.Errorf("formatting %s: %w", filepath.Base(filename), err)
	}
	return os.WriteFile(filename, formatted, 0o644) //nolint:gosec // it is source code, like what is beside it
}

// pointerTo is how the generated package names a pointer to an object's Go type.
func pointerTo(o *Object) string { return "*" + name(strings.TrimPrefix(o.Type.String(), "*")) }

// name is how the generated package names a Go type.
func name(typ string) string {
	star := ""
	if strings.HasPrefix(typ, "*") {
		star, typ = "*", typ[1:]
	}
	if outer, inner, generic := strings.Cut(typ, "["); generic { // entgql.PageInfo[gid.ID]
		return star + short(outer) + "[" + short(strings.TrimSuffix(inner, "]")) + "]"
	}
	return star + short(typ)
}

// short is a qualified name with the last element of its import path alone.
func short(name string) string { return name[strings.LastIndex(name, "/")+1:] }

// hook makes gqlgen's code take the direct way where there is one.
func hook(filename string, objects []*Object) error {
	b, err := os.ReadFile(filename)
	if err != nil {
		return fmt.Errorf("reading what gqlgen wrote: %w", err)
	}
	source := string(b)
	replace := func(old, with string) error {
		if !strings.Contains(source, old) {
			return fmt.Errorf("gqlgen's code has changed: there is no %q", old)
		}
		source = strings.ReplaceAll(source, old, with)
		return nil
	}
	edits := [][2]string{
		{"type executionContext struct {\n", "type executionContext struct {\n\tdirect directAnswers\n"},
		// A list of records has some kilobytes; growing up to there costs as much again.
		{"var buf bytes.Buffer\n", "var buf bytes.Buffer\n\t\tbuf.Grow(answerSize)\n"},
		// Elements of lists are loaded by then; a goroutine each costs more than it saves.
		{"graphql.MarshalSliceConcurrently(ctx, len(v), 64, false, func", "marshalSlice(ctx, len(v), func"},
		// Without it no field below a subscription can have an input object; queries and mutations have it.
		{"next := ec._Subscription(ctx, ", "ctx = graphql.WithLazyInputUnmarshalerIndex(ctx, inputUnmarshalers)\n\t\tnext := ec._Subscription(ctx, "},
	}
	for _, o := range objects {
		direct := fmt.Sprintf("\tif fields := ec.direct%s(ctx, sel); fields != nil {\n\t\treturn graphql.WriterFunc(func(w io.Writer) { ec.write%s(w, fields, obj) })\n\t}\n", o.Name, o.Name)
		head := fmt.Sprintf("func (ec *executionContext) _%s(ctx context.Context, sel ast.SelectionSet, obj %s) graphql.Marshaler {\n", o.Name, pointerTo(o))
		edits = append(edits, [2]string{head, head + direct})
		if o.Record() {
			// The switch over the fields follows; what is hidden of a record does not get there.
			loop := fmt.Sprintf("\tfields := graphql.CollectFields(ec.OperationContext, sel, %sImplementors)\n\n\tout := graphql.NewFieldSet(fields)\n\tdeferred := graphql.NewDeferredGroup(ctx)\n\tfor i, field := range fields {\n", templates.LcFirst(o.Name))
			edits = append(edits, [2]string{loop, "\thidden := hiddenOf(ctx, obj)\n" + loop + "\t\tif hidden[field.Name] {\n\t\t\tout.Values[i] = masked(ctx, field)\n\t\t\tcontinue\n\t\t}\n"})
		}
		for _, f := range o.Fields {
			if f.Leaf() {
				edits = append(edits, [2]string{
					fmt.Sprintf("ec._%s_%s(ctx, field, obj)", o.Name, f.Name),
					fmt.Sprintf("ec.%s(ctx, field.Selections, %s)", f.TypeReference.MarshalFunc(), f.Value()),
				})
			}
		}
	}
	for _, e := range edits {
		if err := replace(e[0], e[1]); err != nil {
			return err
		}
	}
	source = hookLists(source, objects)
	source = keepArguments(source)
	return save(filename, []byte(source))
}
