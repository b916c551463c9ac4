package lib

l := [1, 2]
f(x) := x
k := "k"
unused := "a"
unused2 := {"a": count([1])}
unused3(x) := x + 1
default unused4 := 1
unused5 := 1 if { input.a }
else := 2 if { input.b; count([1 | input.x]) }
unused6 contains "x"
default unused7(_) := 7
