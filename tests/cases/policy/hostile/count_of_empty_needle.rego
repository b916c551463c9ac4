# expect: value 4
package hostile

p := strings.count("abc", "")
