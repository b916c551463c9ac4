# expect: load rego_type_error
package hostile

p := count(1, 2, 3)
