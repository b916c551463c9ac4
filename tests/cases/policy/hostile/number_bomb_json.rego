# expect: undefined
package hostile

p := json.unmarshal("[1e999999999]")
