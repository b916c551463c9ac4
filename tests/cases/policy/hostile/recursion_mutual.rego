# expect: load rego_recursion_error
package hostile

p if q
q if not p
