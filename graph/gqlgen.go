//go:build ignore

// Command gqlgen generates the executable schema from gqlgen.yml. It runs from
// the repository root.
package main

import (
	"log"

	"github.com/99designs/gqlgen/codegen/config"

	"github.com/lethe-crm/lethe/graph/graphgen"
)

func main() {
	cfg, err := config.LoadConfig("gqlgen.yml")
	if err != nil {
		log.Fatalf("reading gqlgen.yml: %v", err)
	}
	if err := graphgen.Generate(cfg); err != nil {
		log.Fatalf("generating: %v", err)
	}
}
