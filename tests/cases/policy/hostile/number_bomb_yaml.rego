# expect: undefined
package hostile

p := yaml.unmarshal("a: 1e999999999")
