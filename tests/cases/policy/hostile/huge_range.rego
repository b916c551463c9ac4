# expect: eval eval_resource_limit
package hostile

p := numbers.range(1, 1000000000000)
