# expect: eval eval_resource_limit
package hostile

p := units.parse_bytes("1e999999999Gi")
