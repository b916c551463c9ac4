# expect: load rego_parse_error
package hostile

p := {
