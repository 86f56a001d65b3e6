package casbin

import "github.com/lethe-crm/lethe/authz"

// The roles of the default policy.
const (
	Viewer     = "viewer"
	Agent      = "agent"
	Manager    = "manager"
	Compliance = "compliance"
	Purger     = "purger"
	Admin      = "admin"
)

// DefaultRoles are the roles of the default policy.
func DefaultRoles() []string { return []string{Viewer, Agent, Manager, Compliance, Purger, Admin} }

// Conditions of the default policy. On types without an owner or a team they are false.
const (
	everywhere    = "any"
	mine          = "owner == me"
	myTeams       = "team in my.teams"
	mineOrMyTeams = mine + " or " + myTeams
)

// DefaultRules is the policy a tenant starts with. It gives nobody a role.
func DefaultRules(tenant string) []Rule {
	table := []struct {
		subject   string
		condition string
		actions   []authz.Action
	}{
		{RoleSubject(Viewer), mineOrMyTeams, []authz.Action{authz.Read}},
		{RoleSubject(Agent), mineOrMyTeams, []authz.Action{authz.Create, authz.Update}},
		{RoleSubject(Agent), mine, []authz.Action{
			authz.Delete, authz.Archive, authz.Suspend, authz.Restore, authz.ReadRetired,
		}},
		{RoleSubject(Manager), myTeams, []authz.Action{
			authz.Delete, authz.Void, authz.Archive, authz.Suspend, authz.Restore, authz.ReadRetired,
			authz.Export, authz.Import, authz.Approve, authz.OperationRead,
		}},
		{RoleSubject(Compliance), everywhere, []authz.Action{
			authz.Read, authz.ReadRetired, authz.HoldPlace, authz.HoldRelease, authz.HoldRead, authz.RetentionEdit,
			authz.Erase, authz.Export, authz.ExportRead, authz.AuditRead, authz.AuditVerify, authz.OperationRead,
		}},
		{RoleSubject(Purger), everywhere, []authz.Action{
			authz.Read, authz.ReadRetired, authz.Purge, authz.OperationRead,
		}},
		{RoleSubject(Admin), everywhere, []authz.Action{wildcard, authz.PolicyEdit}},
		{System, everywhere, []authz.Action{
			authz.Read, authz.ReadRetired, authz.Delete, authz.Void, authz.Archive, authz.Restore, authz.Purge,
		}},
	}
	var rules []Rule
	for _, row := range table {
		for _, a := range row.actions {
			rules = append(rules, Permission(row.subject, tenant, wildcard, string(a), "allow", row.condition))
		}
	}
	return append(rules,
		Grant(RoleSubject(Agent), RoleSubject(Viewer), tenant),
		Grant(RoleSubject(Manager), RoleSubject(Agent), tenant),
	)
}
