# expect: load rego_recursion_error
package hostile

default p := false
p if { false } else := q
q := p
