# expect: eval eval_resource_limit
package hostile

a := sprintf("%100000d", [1])
p := strings.replace_n({" ": a}, a)
