# expect: undefined
package hostile

p if regex.match(concat("", ["(" | some _ in numbers.range(1, 10000)]), "x")
