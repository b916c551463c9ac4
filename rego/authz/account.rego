# METADATA
# title: What stops a caller, whatever was granted
# description: |
#   Reads the caller's live record (`input.live`), which is looked up for every request: a suspension counts at once, not
#   when the token expires. Each rule says what must be so, and blocks when that is not so or not known.
package authz.account

import data.authz.question

blockers contains reason if {
	not is_active
	reason := sprintf("the account is %v", [object.get(input, ["live", "status"], "not known")])
}

# Deleting frees space, so it stays possible.
blockers contains "the quota is used up" if {
	question.action == "edit"
	not is_under_quota
}

blockers contains "only employees have access outside working hours" if {
	not is_employee
	not is_working_hour
}

is_active if input.live.status == "active"

is_employee if input.live.kind == "employee"

is_under_quota if input.live.quota_used < data.quotas[input.live.department]

is_working_hour if {
	hours := data.working_hours
	now := [input.meta.time_ns, hours.timezone]
	time.weekday(now) in hours.days
	[hour, _, _] := time.clock(now)
	hour >= hours.from
	hour < hours.to
}
