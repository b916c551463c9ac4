# expect: eval eval_resource_limit
package hostile

p := product([9e900 | some _ in numbers.range(1, 10000)])
