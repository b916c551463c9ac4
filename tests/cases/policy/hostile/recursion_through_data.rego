# expect: load rego_recursion_error
package hostile

p := data.hostile.q
q := data.hostile["p"]
