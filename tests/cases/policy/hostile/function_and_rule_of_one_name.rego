# expect: load rego_type_error
package hostile

p(x) := x
p := 1
