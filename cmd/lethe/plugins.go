package main

// The plugins that a chain can have members of, besides the policy in the
// database. docs/plugins.md says how to add one.
import (
	_ "github.com/lethe-crm/lethe/authz/authzen"
	_ "github.com/lethe-crm/lethe/authz/officehours"
)
