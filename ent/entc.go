//go:build ignore

// Command entc generates the entities from ent/schema, and the part of the
// GraphQL schema that follows from them. It runs from the repository root.
package main

import (
	"log"

	"entgo.io/contrib/entgql"
	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/lethe-crm/lethe/ent/entgen"
)

func main() {
	funcs := entgql.TemplateFuncs
	own := func(name string) *gen.Template {
		return gen.MustParse(gen.NewTemplate(name).Funcs(gen.Funcs).Funcs(funcs).ParseFiles("ent/template/" + name + ".tmpl"))
	}
	extension, err := entgql.NewExtension(
		entgql.WithConfigPath("gqlgen.yml"),
		entgql.WithSchemaGenerator(),
		entgql.WithSchemaPath("graph/ent.graphql"),
		// Before WithTemplates, whose list holds our copy of that template.
		entgql.WithWhereInputs(true),
		entgql.WithTemplates(own("collection"), entgql.EnumTemplate, own("node"), own("pagination"), own("edge"), own("where_input")),
		entgql.WithRelaySpec(true),
		entgql.WithSchemaHook(entgen.Schema),
	)
	if err != nil {
		log.Fatalf("preparing entgql: %v", err)
	}
	err = entc.Generate("./ent/schema", &gen.Config{
		Target:    "./ent",
		Package:   "github.com/lethe-crm/lethe/ent",
		Features:  []gen.Feature{gen.FeatureIntercept, gen.FeatureNamedEdges},
		Templates: []*gen.Template{own("live"), own("record"), own("reuse")},
	}, entc.Extensions(extension))
	if err != nil {
		log.Fatalf("generating: %v", err)
	}
}
