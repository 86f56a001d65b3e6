// Package model holds what the GraphQL schema is made of that are no entities.
package model

import (
	"time"

	"github.com/lethe-crm/lethe/ent"
	"github.com/lethe-crm/lethe/ent/approval"
)

// ApprovalRule and ApprovalVote are written by hand: entities have these names as well, and are not what is shown.

// ApprovalRule says for what others have to be asked, and whom.
type ApprovalRule struct {
	Name         string
	Subject      approval.Subject
	Type         *ent.RecordKind
	Condition    *string
	Over         int32
	ByFilter     bool
	OpenDeals    bool
	Approvals    int32
	Role         *string
	RequestHours int32
	UseHours     int32
	Execution    approval.Execution
	Enabled      bool
}

// ApprovalVote is what one user said to a request.
type ApprovalVote struct {
	User    *ent.User
	Approve bool
	Comment *string
	At      time.Time
}
