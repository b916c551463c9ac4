// The SDK's own calls against the fixture bundle of tests/fixtures/opa-rest; ends with `ok`, or with a failed assertion.

import assert from "node:assert/strict";

import { OPAClient } from "@open-policy-agent/opa";

const opa = new OPAClient(process.env.CLAIMGATE_URL);

assert.equal(await opa.evaluate("authz/allow", { user: "alice" }), true);
assert.equal(await opa.evaluate("authz/allow", { user: "bob" }), false);
assert.equal(await opa.evaluate("authz/allow"), false);
assert.deepEqual(await opa.evaluate("authz/s"), ["a", "b"]);
assert.equal(await opa.evaluate("this/is%2Fallowed/pkg/allow"), true);
assert.deepEqual(await opa.evaluateDefault({ user: "x" }), { m: "default", echo: { user: "x" } });

const all = await opa.evaluateBatch("authz/allow", { a: { user: "alice" }, b: { user: "bob" } });
assert.deepEqual(all, { a: true, b: false });

await assert.rejects(opa.evaluate("authz/conflict", { c: 1 }));
const mixed = await opa.evaluateBatch("authz/conflict", { bad: { c: 1 }, good: {} });
assert.equal(mixed.bad.code, "internal_error");
assert.equal(mixed.good, undefined);

console.log("ok");
