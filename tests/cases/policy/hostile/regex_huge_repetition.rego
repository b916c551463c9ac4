# expect: eval eval_resource_limit
package hostile

p if regex.match("((a{1000}){1000}){1000}", "aaaa")
