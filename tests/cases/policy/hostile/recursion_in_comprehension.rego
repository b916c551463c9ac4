# expect: load rego_recursion_error
package hostile

p := [x | some x in q]
q contains y if { some y in p }
