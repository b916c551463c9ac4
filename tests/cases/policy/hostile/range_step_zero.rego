# expect: undefined
package hostile

p := numbers.range_step(1, 10, 0)
