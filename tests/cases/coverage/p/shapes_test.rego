package shapes_test

import data.shapes

test_shapes if {
	all := shapes with input as {"s": "x", "t": 2, "l": [1], "o": {"k": 1}}
	not all.nothing
}
