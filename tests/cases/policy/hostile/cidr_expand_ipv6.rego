# expect: eval eval_resource_limit
package hostile

p := count(net.cidr_expand("::/0"))
