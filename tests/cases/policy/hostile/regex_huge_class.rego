# expect: eval eval_resource_limit
package hostile

p if regex.match(`\pL{1000}`, "aaaa")
