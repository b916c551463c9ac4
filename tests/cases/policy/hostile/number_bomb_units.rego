# expect: eval eval_resource_limit
package hostile

p := units.parse("1e999999999")
