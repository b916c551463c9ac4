# expect: blocks
package hostile

f0(x) := x * x
f1(x) := f0(f0(x))
f2(x) := f1(f1(x))
f3(x) := f2(f2(x))
f4(x) := f3(f3(x))
f5(x) := f4(f4(x))
p := f5(9e900) % 7
