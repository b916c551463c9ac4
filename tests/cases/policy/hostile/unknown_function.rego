# expect: load rego_type_error
package hostile

p if not isadmin(input.x)
