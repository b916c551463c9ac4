# expect: eval eval_deadline_exceeded
package hostile

xs := numbers.range(1, 3000)
p contains a if { xs[a]; xs[b]; xs[c]; a + b + c < 0 }
