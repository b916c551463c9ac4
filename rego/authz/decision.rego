# METADATA
# title: The decision
# description: |
#   A caller may do what somebody granted, unless something about the account stops it. What was granted and what stops
#   it stand in two packages of their own; this one only joins them, and says why not.
package authz

import data.authz.account
import data.authz.folders
import data.authz.question

# METADATA
# description: The answer as a plain boolean.
# entrypoint: true
default allow := false

allow if {
	folders.is_granted
	count(account.blockers) == 0
}

# METADATA
# description: The answer with its reason; `headers` reach the application behind a proxy.
# entrypoint: true
decision := {"allow": true, "headers": {"x-user": input.token.subject}} if allow

decision := {"allow": false, "reason": concat("; ", reasons)} if not allow

reasons contains "the question names no action and no folder" if not question.is_complete

reasons contains reason if {
	not folders.is_granted
	reason := sprintf("nobody granted `%s` on folder `%s`", [question.action, question.folder_id])
}

reasons contains reason if some reason in account.blockers
