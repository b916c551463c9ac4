# expect: load rego_type_error
package hostile

revoked if http.send({"method": "get", "url": "http://x"}).body.revoked
p if not revoked
