# expect: load rego_recursion_error
package hostile

f(x) := g(x)
g(x) := f(x)
p := f(1)
