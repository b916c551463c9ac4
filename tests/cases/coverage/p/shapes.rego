package shapes

import rego.v1

import data.lib

c1 if { x := input; startswith(x.s, "x") }

c2 if { [input.s] == ["x"] }

c3 if { x := {"a": input.s}; x.a != input.t }

c4 if { x := [input.s, 1]; count(x) > 1 }

c5 if { some y in input.l; y > 0 }
c6 if { some y in lib.l; y == lib.f(1) }
c7 if { input.o[lib.k] }
c8 if { count(data.lib.l) == 2; data.lib.l[_] == 1 }
c9 := -1 if { not input.zz }
c10 := x if { x := input.l[_]; x > 0; x == 1 }
c11 if { input.o["k"] == 1; input.o.k }
f(a, "x") := lib.f(a)
c12 := f(input.s, "x")
c13 := input.s
c14 := {"a": input.s, "b": [lib.k]}
c15 := [input.s]
c16[x] := input.s if some x in ["a"]
c17 contains input.s
c18 := sum([1 | true])
c19 := "abc"
d1 contains "x"
d2 contains [input.s, 1]
d3.e.f := 1
d4["x"] := 2
d5 if input.s in {"x", "q"}
d6(x) if x == 1
d6(x) if x == 2
d7 if { d6(2); every k in input.l { k > 0 } }
d8 := x if { some x in input.l; not d6(x + 5) }
d9 := {k: v | some k, v in input.o; v == 1}
d10 if { some k; input.o[k] == 7 }
d11 if { walk(input, [p, 1]); count(p) > 0 }
d12 if { x = y; y = 1; x == 1 }
d13 if { input.s = s; s == "x" }
d15 := v if { v := [a | a := input.l[_]; a > 0][0] }
d16 if { x := {"a": {"b": 1}}; x.a.b == 1; object.get(x, ["a", "b"], 3) == 1 }
d17 := [1, 2,
  3]
d18 if { input.s == "nope" } else := 7 if { input.s == "x" } else := 8
