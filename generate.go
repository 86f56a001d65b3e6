// Package lethe holds the generation chain; the server is in cmd/lethe.
package lethe

// ent writes the entities and graph/ent.graphql, gqlgen the executable schema,
// then the contract that is served and compared in CI, and the page of flags.
//go:generate go run ./ent/entc.go
//go:generate go run ./graph/gqlgen.go
//go:generate go run ./cmd/lethe schema -o graph/contract.graphql
//go:generate go run ./cmd/lethe configuration -o docs/configuration.md
