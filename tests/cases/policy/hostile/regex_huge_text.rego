# expect: eval eval_resource_limit
package hostile

p if regex.match("(x+x+)+y", sprintf("%5000000d", [1]))
