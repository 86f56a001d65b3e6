package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-crm/lethe/authz"
	"github.com/lethe-crm/lethe/authz/casbin"
	"github.com/lethe-crm/lethe/internal/access"
	"github.com/lethe-crm/lethe/internal/store/pgtest"
)

// binaries is the folder both servers were built into.
var binaries string

func TestMain(m *testing.M) {
	var err error
	if binaries, err = os.MkdirTemp("", "lethe-bench-"); err != nil {
		panic(err)
	}
	code := 1
	b := &bench{options: &options{root: "..", binaries: binaries}}
	if err := b.build(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = pgtest.Run(m)
	}
	if err := os.RemoveAll(binaries); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// A run compares what the two servers answer, and what they leave behind, before
// it measures; and it fails when an answer is not what it should be. So there is
// nothing to check here but that it comes to its end, on little data.
func TestBothServersDoTheSame(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"postgres": func(t *testing.T) string { t.Helper(); return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := measure(t.Context(), &options{
				database: database(t), sqlite: name == "sqlite", customers: 300, messages: 3_000,
				connections: 4, slice: 200 * time.Millisecond, rounds: 1, root: "..", binaries: binaries,
			})
			require.NoError(t, err)
			require.Len(t, r.Rows, 5)
			require.Contains(t, r.table(), "| (d) |")
		})
	}
}

// Here, too, a run checks what it measures: how many records each job changed, and
// that a purge by either leaves the same.
func TestBothSidesFinishJobs(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(*testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"postgres": func(t *testing.T) string { t.Helper(); return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := measureJobs(t.Context(), &options{
				database: database(t), sqlite: name == "sqlite", connections: 4, jobs: true, records: []int{1_200, 2_000}, root: "..", binaries: binaries,
			})
			require.NoError(t, err)
			require.Len(t, r.Rows, 6)
			for _, row := range r.Rows {
				require.Positive(t, row.Lethe)
				require.Positive(t, row.Limit)
			}
			require.Contains(t, r.table(), "| 2000 | purge |")
		})
	}
}

func TestTheDecisionsThatAreMeasuredAreCasbins(t *testing.T) {
	t.Parallel()
	rules := manyRules(1_000)
	plugin, err := casbin.New(casbin.Options{Source: fixed(rules), Vocabulary: access.Vocabulary()})
	require.NoError(t, err)
	chain, err := authz.NewChain(nil, authz.Member{Name: "casbin", Plugin: plugin, Role: authz.Grant})
	require.NoError(t, err)
	enforcer, err := stockEnforcer(rules)
	require.NoError(t, err)
	requests := manyRequests()
	require.NoError(t, agree(t.Context(), chain, enforcer, requests, 500))
	permitted := 0
	for _, d := range chain.Decide(t.Context(), requests) {
		if d.Permitted() {
			permitted++
		}
	}
	require.Greater(t, permitted, distinct/100, "a policy that permits nothing says nothing")
}
