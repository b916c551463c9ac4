# expect: eval eval_resource_limit
package hostile

nodes := numbers.range(1, 30)
edges := {sprintf("%d", [n]): [sprintf("%d", [m]) | some m in nodes] | some n in nodes}
p := count(graph.reachable_paths(edges, ["1"]))
