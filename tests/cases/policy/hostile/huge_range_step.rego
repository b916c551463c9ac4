# expect: eval eval_resource_limit
package hostile

p := numbers.range_step(1, 1e300, 2)
