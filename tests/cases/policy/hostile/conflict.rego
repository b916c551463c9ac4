# expect: eval eval_conflict_error
package hostile

p := 1 if true
p := 2 if true
