# expect: eval eval_memory_limit
package hostile

p := count([numbers.range(i, i + 100000) | some i in numbers.range(1, 1000)])
