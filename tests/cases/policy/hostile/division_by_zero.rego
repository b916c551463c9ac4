# expect: undefined
package hostile

p := 1 / 0
