# METADATA
# title: What was granted
# description: |
#   Folders have an owner, editors and viewers; a role opens the folders of whole departments. Who has which level, and
#   what a level permits, is data. The token contributes who the caller is and nothing else.
package authz.folders

import data.authz.question

is_granted if {
	some level in levels
	question.action in data.levels[level]
}

levels contains "owner" if folder.owner == input.token.subject

levels contains "editor" if input.token.subject in folder.editors

levels contains "viewer" if input.token.subject in folder.viewers

levels contains data.roles[input.token.claims.role].folders_of[folder.department]

# A folder of another organisation does not exist for the caller.
folder := found if {
	found := data.folders[question.folder_id]
	found.org_id == input.token.claims.org_id
}
