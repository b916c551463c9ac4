# The same rule for OPA, which verifies the token in Rego.
package rbac

default allow := false

claims := payload if {
	[valid, _, payload] := io.jwt.decode_verify(input.jwt, {
		"cert": data.jwks,
		"iss": "https://idp.example",
		"aud": "bench",
		"alg": "RS256",
	})
	valid
}

allow if {
	some role in data.user_roles[claims.sub]
	some grant in data.role_grants[role]
	grant.action == input.action
	grant.type == input.type
}
