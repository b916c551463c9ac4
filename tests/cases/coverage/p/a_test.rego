package a_test
import rego.v1
import data.a

test_1 if a.allow with input as {"method": "GET", "user": "bob", "list": [1,2]}

test_2 if not a.allow with input as {"method": "GET", "user": "alice"}

test_3 if a.names == {"A"} with input as {"names": ["a", "xx"]}
test_4 if {
	a.obj == {"a": 1, "b": 2}
	a.const == 5
	not a.some_in with input.arr as [2]
}
