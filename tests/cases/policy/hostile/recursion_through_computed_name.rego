# expect: load rego_recursion_error
package hostile

p := data.hostile[input.name]
