# expect: undefined
package hostile

p if regex.match("^(x+x+)+y$", concat("", ["x" | some _ in numbers.range(1, 20000)]))
