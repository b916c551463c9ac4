# expect: eval eval_conflict_error
package hostile

f(x) := 1 if x > 0
f(x) := 2 if x > 0
p := f(1)
