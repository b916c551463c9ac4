# expect: eval eval_resource_limit
package hostile

p if not regex.match(concat("", [concat("", ["(" | some _ in numbers.range(1, 900)]), concat("", [")" | some _ in numbers.range(1, 900)])]), "x")
