//go:build ignore

// Command entc generates the entities from ent/schema, and the part of the
// GraphQL schema that follows from them. It runs from the repository root.
package main

import (
	"errors"
	"log"
	"os"
	"path/filepath"
	"regexp"

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
		Templates: []*gen.Template{own("live"), own("record"), own("reuse"), own("parents")},
	}, entc.Extensions(extension))
	if err != nil {
		log.Fatalf("generating: %v", err)
	}
	if err := oneArgument("./ent"); err != nil {
		log.Fatalf("generating: %v", err)
	}
}

var inValues = regexp.MustCompile(`s\.Where\(sql\.InValues\((s\.C\(\w+\.\w+\)), fks\.\.\.\)\)`)

// oneArgument lets what is loaded below a list of rows name them in one
// argument: as many as there are rows would be another statement each time.
func oneArgument(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*_query.go"))
	if err != nil {
		return err
	}
	found := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		found += len(inValues.FindAll(source, -1))
		if err := os.WriteFile(file, inValues.ReplaceAll(source, []byte("s.Where(amongParents(s, $1, fks))")), 0o644); err != nil {
			return err
		}
	}
	if found == 0 {
		return errors.New("ent's code has changed: nothing is loaded below rows")
	}
	return nil
}
