# expect: eval eval_resource_limit
package hostile

p := to_number("1e999999999")
