# expect: eval eval_resource_limit
package hostile

path(n) := concat("", ["/a" | some _ in numbers.range(1, n)])
p := json.patch({}, [{"op": "add", "path": path(n), "value": {}} | some n in [100, 600]])
