# expect: load rego_recursion_error
package hostile

p if q with input.x as 1
q if p with input.y as 2
