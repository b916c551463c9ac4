# expect: load rego_recursion_error
package hostile

p[q] := 1
q := count(p)
