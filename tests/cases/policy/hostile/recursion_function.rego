# expect: load rego_recursion_error
package hostile

f(x) := f(x - 1) + 1
p := f(10)
