package a

import rego.v1

default allow := false

allow if {
	input.method == "GET"
	input.user == "bob"
	x := count([y | some y in input.list; y > 1])
	x >= 1
}

allow if {
	input.method == "POST"
	every z in input.list {
		z > 0
	}
}

names contains upper(n) if {
	some n in input.names
	not startswith(n, "x")
}

f(x) := 1 if {
	x == 1
} else := 2 if {
	x == 2
} else := 3

obj := {"a": 1, "b": f(2)}

unused if {
	a := 1
	b := to_number(sprintf("%d", [a + 2]))
	b == 3
	{
		"x": 1,
	} == {"x": 1}
}

const := 5

p.q.r := 3 if input.x

t[x] := y if some x, y in {"a": 1}

some_in if {
    some q
    input.arr[q] == 1
}
