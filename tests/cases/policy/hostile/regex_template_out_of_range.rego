# expect: undefined
package hostile

p if regex.template_match("urn:foo:{.*}", "u", "{", "}")
