# expect: eval eval_resource_limit
package hostile

p := concat(sprintf("%1000000d", [1]), ["" | some _ in numbers.range(1, 100000)])
