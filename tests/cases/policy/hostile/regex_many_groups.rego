# expect: eval eval_resource_limit
package hostile

p if regex.find_all_string_submatch_n(concat("", ["()" | some _ in numbers.range(1, 200)]), sprintf("%1000000d", [1]), -1)
