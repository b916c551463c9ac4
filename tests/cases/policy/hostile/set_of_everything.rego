# expect: eval eval_deadline_exceeded
package hostile

xs := numbers.range(1, 2000)
p := count({[a, b] | some a in xs; some b in xs})
