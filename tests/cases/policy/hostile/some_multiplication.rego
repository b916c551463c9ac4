# expect: value 120
package hostile

q := input.x * 2
p := x if { x := 1 * 2 * 3 * 4 * 5 }
