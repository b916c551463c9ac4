// A small application that asks claimgate before it answers. No dependency; Node.js 18 or later.
//
//   claimgate demo                      # in one terminal; it prints requests with tokens
//   node examples/app/server.mjs        # in another
//   TOKEN=…                             # in a third: what stands after `Bearer ` in the demo's first line
//   curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/folders/campaign-2026
//
// The application hands on the caller's Authorization header as it came and says what is about to be done. It never
// parses the token: who the caller is comes back from claimgate's answer, and so does whether the caller may.

import { createServer } from "node:http";

const claimgate = process.env.CLAIMGATE_URL ?? "http://127.0.0.1:8181";
const port = Number(process.env.PORT ?? 8080);
const actions = { GET: "view", PUT: "edit", POST: "edit", DELETE: "delete" };

/** Asks `authz/decision`. Anything but a clear yes is a no: a broken connection, a timeout, an odd answer. */
async function decide(request, action, resource) {
  try {
    const answer = await fetch(`${claimgate}/v1/data/authz/decision`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(request.headers.authorization && { authorization: request.headers.authorization }),
      },
      body: JSON.stringify({ input: { action, resource } }),
      signal: AbortSignal.timeout(1000),
    });
    if (answer.status === 401) {
      return { status: 401, challenge: answer.headers.get("www-authenticate"), reason: "sign in first" };
    }
    if (!answer.ok) return { status: 503, reason: "the authorization service gave no answer" };
    const { result } = await answer.json();
    if (result?.allow === true) return { status: 200 };
    return { status: 403, reason: result?.reason ?? "not allowed" };
  } catch {
    return { status: 503, reason: "the authorization service gave no answer" };
  }
}

const server = createServer(async (request, response) => {
  const [, kind, id, ...rest] = new URL(request.url, "http://app").pathname.split("/");
  const action = actions[request.method];
  if (kind !== "folders" || !id || rest.length > 0 || !action) {
    response.writeHead(404).end("no such page\n");
    return;
  }
  const decision = await decide(request, action, { type: "folder", id });
  const headers = { "content-type": "text/plain; charset=utf-8" };
  if (decision.challenge) headers["www-authenticate"] = decision.challenge;
  response.writeHead(decision.status, headers);
  response.end(decision.status === 200 ? `${action} ${id}: done\n` : `${decision.reason}\n`);
});

server.listen(port, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
