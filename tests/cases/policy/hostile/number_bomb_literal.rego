# expect: load rego_limit_error
package hostile

p := 1e999999999
