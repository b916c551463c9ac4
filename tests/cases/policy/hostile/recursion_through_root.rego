# expect: load rego_recursion_error
package hostile

p := data[input.name][input.rule]
