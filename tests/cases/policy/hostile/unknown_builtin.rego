# expect: load rego_type_error
package hostile

p if not no.such.builtin(input.x)
