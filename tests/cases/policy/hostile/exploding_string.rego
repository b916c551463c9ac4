# expect: eval eval_resource_limit
package hostile

a := "0123456789abcdef"
b := concat("", [a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a])
c := concat("", [b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b])
d := concat("", [c, c, c, c, c, c, c, c, c, c, c, c, c, c, c, c])
e := concat("", [d, d, d, d, d, d, d, d, d, d, d, d, d, d, d, d])
f := concat("", [e, e, e, e, e, e, e, e, e, e, e, e, e, e, e, e])
p := concat("", [f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f])
