# expect: load rego_recursion_error
package hostile

p contains x if { some x in p }
