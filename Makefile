# Every target is one line of what it runs; .ci/run has the reasons.
.DEFAULT_GOAL := help
.PHONY: help generate test race lint ci demo external clients long bench migration

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

generate: ## Write the generated code anew: entities, GraphQL, contract.graphql
	go generate ./...

# go test ./... shows nothing of a package that passed, so whether PostgreSQL
# was there is asked once more at the end.
test: ## Run all tests on SQLite, and on PostgreSQL where it is installed
	go test ./...
	@if go test -v -run TestEveryTestHasADatabaseOfItsOwn ./internal/store/pgtest | grep -q '^pgtest: .* skipped'; then \
		echo 'PostgreSQL tests were skipped: install PostgreSQL 15 or newer, or set LETHE_TEST_POSTGRES'; fi

race: ## Run the tests of the concurrent packages under the race detector
	.ci/run install race

lint: ## Run golangci-lint, in the version pinned in .ci/run
	.ci/run lint

ci: ## Run everything CI runs, in the same way
	.ci/run

demo: ## Serve sample data at http://127.0.0.1:8080 and print sign-in links
	go run ./cmd/lethe serve --demo

# It needs age, node, npm with a registry, and LibreOffice; what is missing fails and
# says how to get it. The first two are part of CI.
external: ## Have age, standardwebhooks and LibreOffice read what Lethe writes, and build the image's binary as its file says
	LETHE_EXTERNAL=age,standardwebhooks,libreoffice go test -count=1 -timeout 10m -v -run WhatOthers ./e2e
	LETHE_EXTERNAL=image go test -count=1 -timeout 30m -v -run TestTheImage ./docs

clients: ## Have Apollo, urql, Relay and others use the server, and their tools read the contract; docs/clients
	.ci/run clients

# The packages with properties, each on 100 times the usual number of cases; those
# of the lifecycle for as long as LETHE_LONG says, each on each database. What reads
# files and ids of others is given whatever there is for a minute each.
long: ## Run the property tests and the fuzz tests for long, kill the server 50 times, and soak it
	go test -count=1 -timeout 60m -rapid.checks=10000 \
		$$(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | awk '/pgregory.net\/rapid/ { print $$1 }')
	LETHE_LONG=60s go test -count=1 -timeout 60m -v -run Property ./internal/record
	LETHE_LONG=60s go test -count=1 -timeout 60m -v ./authz/casbin
	grep -ro --include='*_test.go' '^func Fuzz[A-Za-z]*' . | sed 's|/[^/]*:func | |' | while read -r package fuzz; do \
		go test -run '^$$' -fuzz "^$$fuzz$$" -fuzztime 60s -fuzzminimizetime 10x "$$package" </dev/null || exit 1; done
	LETHE_KILLS=50 go test -count=1 -timeout 60m -v -run Killed ./e2e
	LETHE_SOAK=10m go test -count=1 -timeout 60m -v -run Soaked ./e2e

# It asks the database of known vulnerabilities, which is on the Internet, and so is not part of CI.
vulnerabilities: ## Look for known vulnerabilities in what the program uses
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

# The databases stay in BENCH, some 3 GB each, and are found there the next time.
BENCH ?= lethe-bench
bench: ## Measure against a handler and SQL written by hand; bench/README.md says how
	go run ./bench --keep $(BENCH) --readme
	go run ./bench --keep $(BENCH) --readme --sqlite
	go run ./bench --keep $(BENCH) --readme --jobs
	go run ./bench --keep $(BENCH) --readme --jobs --sqlite
	go run ./bench --decisions --readme

migration: ## Write the migrations the entities need: make migration NAME=... with LETHE_DEV_POSTGRES=postgres://... (an empty database)
	go run ./ent/migration/main.go $(NAME)
