# expect: load rego_recursion_error
package hostile

f(x) := x
g(x) := p
p if f(1) with f as g
