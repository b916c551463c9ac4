# expect: eval eval_resource_limit
package hostile

p if regex.match(sprintf("%100000d", [1]), "x")
