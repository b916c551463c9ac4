package authz_test

import data.authz

# === Grants ===

test_vp_edits_the_folders_of_marketing if {
	decide("maria", "marketing_vp", "edit", "campaign") == {"allow": true, "headers": {"x-user": "maria"}}
}

test_vp_has_nothing_in_finance if {
	refused("maria", "marketing_vp", "view", "forecast") == "nobody granted `view` on folder `forecast`"
}

test_vp_may_not_delete if {
	refused("maria", "marketing_vp", "delete", "campaign") == "nobody granted `delete` on folder `campaign`"
}

test_a_folder_of_another_organisation_does_not_exist if {
	refused("maria", "marketing_vp", "view", "foreign") == "nobody granted `view` on folder `foreign`"
}

test_owner_does_everything if {
	every action in ["view", "edit", "delete"] {
		decide("olga", "employee", action, "campaign").allow
	}
}

test_editor_edits if decide("carl", "contractor", "edit", "campaign").allow

test_viewer_views if decide("vera", "employee", "view", "campaign").allow

test_viewer_does_not_edit if {
	refused("vera", "employee", "edit", "campaign") == "nobody granted `edit` on folder `campaign`"
}

test_an_unknown_role_grants_nothing if {
	not decide("maria", "emperor", "view", "campaign").allow
}

# === Blockers ===

test_suspended_vp_with_a_valid_token_is_refused if {
	refused("sam", "marketing_vp", "view", "campaign") == "the account is suspended"
}

test_account_without_a_record_is_refused if {
	reason := refused("nobody", "marketing_vp", "view", "campaign")
	contains(reason, "the account is not known")
}

test_vp_over_quota_may_only_look if {
	refused("quentin", "marketing_vp", "edit", "campaign") == "the quota is used up"
	decide("quentin", "marketing_vp", "view", "campaign").allow
}

test_every_reason_is_told if {
	reason := refused("sam", "marketing_vp", "edit", "forecast")
	reason == "nobody granted `edit` on folder `forecast`; the account is suspended"
}

test_contractor_works_in_working_hours_only if {
	cases := {
		"2026-03-02T07:59:59+01:00": false, # Monday
		"2026-03-02T08:00:00+01:00": true,
		"2026-03-02T17:59:59+01:00": true,
		"2026-03-02T18:00:00+01:00": false,
		"2026-07-06T08:00:00+02:00": true, # Monday in summer time
		"2026-03-01T12:00:00+01:00": false, # Sunday
	}
	every time, expected in cases {
		asked := object.union(question("carl", "contractor", "edit", "campaign"), {"meta": {"time_ns": parsed(time)}})
		answer(asked).allow == expected
	}
}

# === The question ===

test_a_proxy_shows_method_and_path if {
	cases := {
		"GET": true,
		"PUT": false,
		"OPTIONS": false,
	}
	every method, expected in cases {
		request := {"method": method, "segments": ["folders", "campaign"]}
		answer(object.union(caller("vera", "employee"), {"request": request})).allow == expected
	}
}

test_other_paths_are_refused if {
	every segments in [[], ["folders"], ["folders", "campaign", "share"], ["files", "campaign"]] {
		request := {"method": "GET", "segments": segments}
		not answer(object.union(caller("olga", "employee"), {"request": request})).allow
	}
}

test_no_question_is_refused if {
	answer(caller("olga", "employee")) == {"allow": false, "reason": "the question names no action and no folder"}
}

test_no_caller_is_refused if {
	not answer({"action": "view", "resource": {"type": "folder", "id": "campaign"}}).allow
}

# === Fixtures ===

users := {
	"maria": {"status": "active", "kind": "employee", "department": "marketing", "quota_used": 99},
	"quentin": {"status": "active", "kind": "employee", "department": "marketing", "quota_used": 100},
	"sam": {"status": "suspended", "kind": "employee", "department": "marketing", "quota_used": 0},
	"olga": {"status": "active", "kind": "employee", "department": "marketing", "quota_used": 0},
	"vera": {"status": "active", "kind": "employee", "department": "marketing", "quota_used": 0},
	"carl": {"status": "active", "kind": "contractor", "department": "marketing", "quota_used": 0},
}

folders := {
	"campaign": {
		"org_id": "acme",
		"department": "marketing",
		"owner": "olga",
		"editors": ["carl"],
		"viewers": ["vera"],
	},
	"forecast": {"org_id": "acme", "department": "finance", "owner": "olga", "editors": [], "viewers": []},
	"foreign": {"org_id": "globex", "department": "marketing", "owner": "gina", "editors": [], "viewers": []},
}

roles := {"marketing_vp": {"folders_of": {"marketing": "editor"}}}

levels := {"owner": ["view", "edit", "delete"], "editor": ["view", "edit"], "viewer": ["view"]}

hours := {
	"timezone": "Europe/Berlin",
	"days": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"],
	"from": 8,
	"to": 18,
}

parsed(text) := time.parse_rfc3339_ns(text)

# Monday noon
caller(subject, role) := object.union(
	{
		"token": {"subject": subject, "claims": {"org_id": "acme", "role": role}},
		"meta": {"time_ns": parsed("2026-03-02T12:00:00+01:00")},
	},
	{"live": user | user := users[subject]},
)

question(subject, role, action, folder) := object.union(
	caller(subject, role),
	{"action": action, "resource": {"type": "folder", "id": folder}},
)

answer(asked) := decision if {
	decision := authz.decision with input as asked
		with data.folders as folders
		with data.roles as roles
		with data.levels as levels
		with data.quotas as {"marketing": 100}
		with data.working_hours as hours
}

decide(subject, role, action, folder) := answer(question(subject, role, action, folder))

refused(subject, role, action, folder) := decision.reason if {
	decision := decide(subject, role, action, folder)
	not decision.allow
}
