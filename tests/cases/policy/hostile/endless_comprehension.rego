# expect: eval eval_deadline_exceeded
package hostile

xs := numbers.range(1, 3000)
p := count([1 | some a in xs; some b in xs; some c in xs; a + b == c])
