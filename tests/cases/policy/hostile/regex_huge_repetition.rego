# expect: undefined
package hostile

# Invalid: more than a thousand times.
p if regex.match("((a{1000}){1000}){1000}", "aaaa")
