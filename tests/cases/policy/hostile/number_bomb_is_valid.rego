# expect: value false
package hostile

p := json.is_valid("1e999999999")
