# expect: eval eval_resource_limit
package hostile

a := sprintf("%1000000d", [1])
p := regex.replace(a, "", a)
