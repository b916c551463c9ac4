# expect: load rego_unsafe_var_error
package hostile

p if x > 1
