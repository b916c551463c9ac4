# expect: eval eval_panic
package hostile

p if regex.template_match("urn:foo:{.*}", "u", "{", "}")
