# expect: eval eval_resource_limit
package hostile

p := bits.lsh(1, 4000000000)
