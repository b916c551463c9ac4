# expect: undefined
package hostile

p := yaml.unmarshal(concat("", ["[" | some _ in numbers.range(1, 100000)]))
