# expect: eval eval_memory_limit
package hostile

long := concat("", ["abcdefgh" | some _ in numbers.range(1, 10000)])

p := [concat("", [long, sprintf("%d", [i])]) | some i in numbers.range(1, 100000)]
