# Role-based access control, the way the OPA documentation teaches it: both servers run this same file.
package rbac

default allow := false

allow if {
	some role in data.user_roles[input.user]
	some grant in data.role_grants[role]
	grant.action == input.action
	grant.type == input.type
}
