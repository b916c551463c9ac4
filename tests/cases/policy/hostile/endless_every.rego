# expect: eval eval_deadline_exceeded
package hostile

xs := numbers.range(1, 3000)
p if every a in xs { every b in xs { every c in xs { a + b + c > 0 } } }
