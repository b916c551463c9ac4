# expect: eval eval_resource_limit
package hostile

a := replace(sprintf("%1000000d", [1]), " ", "a")
p := indexof(a, concat("", [substring(a, 0, 500000), "b"]))
