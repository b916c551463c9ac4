# METADATA
# title: What is asked
# description: |
#   An application says it itself (`input.action`, `input.resource`); a proxy shows the request, and method and path say
#   it. Every other package reads the question from here.
package authz.question

actions := {
	"GET": "view",
	"HEAD": "view",
	"POST": "edit",
	"PUT": "edit",
	"PATCH": "edit",
	"DELETE": "delete",
}

action := input.action

action := actions[input.request.method] if not input.action

folder_id := input.resource.id if input.resource.type == "folder"

# /folders/{id}
folder_id := input.request.segments[1] if {
	not input.resource
	input.request.segments[0] == "folders"
	count(input.request.segments) == 2
}

is_complete if {
	is_string(action)
	is_string(folder_id)
}
