package authz

import (
	"context"
	"time"
)

// Method is what a member is called for.
type Method string

// The methods.
const (
	MethodDecide     Method = "decide"
	MethodPlan       Method = "plan"
	MethodExplain    Method = "explain"
	MethodPin        Method = "pin"
	MethodVersion    Method = "version"
	MethodAttributes Method = "attributes"
	MethodFields     Method = "fields"
	MethodSearch     Method = "search"
)

// Failure is how a member failed to answer; it is empty where it did not.
type Failure string

// The failures.
const (
	FailureError    Failure = "error"
	FailureTimeout  Failure = "timeout"
	FailurePanic    Failure = "panic"
	FailurePin      Failure = "pin"      // it was not asked, because it could not be pinned
	FailureCanceled Failure = "canceled" // whoever asked went away first, which is no fault of the member
)

// Call is one call of a member.
type Call struct {
	Member   string
	Method   Method
	Requests int
	Duration time.Duration
	Failure  Failure
	// Effects are how many of the requests of MethodDecide had which answer, by Effect. Those of a call that failed are
	// Indeterminate.
	Effects [Indeterminate + 1]int
}

// Observer is told of every call of a member once it is over, from many goroutines at a time.
type Observer func(ctx context.Context, call Call)

// Observe sets who is told of the calls of members. It comes before the chain is used.
func (c *Chain) Observe(o Observer) { c.observer = o }

// begin starts to observe a call. What it returns is told how the call went.
func (c *Chain) begin(m Member, method Method, requests int) func(context.Context, Failure, []Decision) {
	if c.observer == nil {
		return unobserved
	}
	start := time.Now() //nolint:forbidigo // how long something takes is a matter of the real clock
	return func(ctx context.Context, failure Failure, ds []Decision) {
		call := Call{Member: m.Name, Method: method, Requests: requests, Failure: failure}
		call.Duration = time.Since(start) //nolint:forbidigo // as above
		for _, d := range ds {
			call.Effects[d.Effect]++
		}
		c.observer(ctx, call)
	}
}

func unobserved(context.Context, Failure, []Decision) {}
