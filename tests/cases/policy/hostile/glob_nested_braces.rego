# expect: undefined
package hostile

p if glob.match(concat("", ["{a," | some _ in numbers.range(1, 3000)]), [], "x")
