# expect: eval eval_memory_limit
package hostile

large if count([numbers.range(i, i + 100000) | some i in numbers.range(1, 1000)]) > 5

p if not large
