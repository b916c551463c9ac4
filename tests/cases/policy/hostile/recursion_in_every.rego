# expect: load rego_recursion_error
package hostile

p if every x in [1, 2] { x > 0; q }
q if p
