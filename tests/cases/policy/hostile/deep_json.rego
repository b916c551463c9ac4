# expect: undefined
package hostile

p := json.unmarshal(concat("", ["[" | some _ in numbers.range(1, 100000)]))
