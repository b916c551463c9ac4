# The RBAC rule of ../rbac with the user taken from the verified token.
package rbac

default allow := false

allow if {
	some role in data.user_roles[input.token.subject]
	some grant in data.role_grants[role]
	grant.action == input.action
	grant.type == input.type
}
