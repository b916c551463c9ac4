# expect: load rego_limit_error
package hostile

f(x) := [x, x]
g(x) := f(f(f(f(f(f(f(f(x))))))))
p if g(g(g(g(g([1]))))) == g(g(g(g(g([1])))))
