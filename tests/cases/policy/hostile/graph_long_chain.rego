# expect: eval eval_resource_limit
package hostile

edges := {sprintf("%d", [n]): [sprintf("%d", [n + 1])] | some n in numbers.range(1, 3000)}
p := count(graph.reachable_paths(edges, ["1"]))
