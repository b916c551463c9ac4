# expect: eval eval_resource_limit
package hostile

p := json.patch({"a": 1}, [{"op": "copy", "from": "", "path": "/b"} | some _ in numbers.range(1, 30)])
