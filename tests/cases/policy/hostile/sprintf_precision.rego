# expect: eval eval_resource_limit
package hostile

p := sprintf("%.4000000000d", [1])
