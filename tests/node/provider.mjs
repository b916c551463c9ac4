// A real OpenID Connect provider for tests/it/oidc_provider.rs: `oidc-provider` on a port that the system chooses, with
// access tokens by client credentials (JWTs of RFC 9068, or opaque ones, by resource), DPoP, introspection, revocation.
//
// It prints `listening on http://127.0.0.1:PORT`, which is its issuer. The rest is for the test that steers it:
//   POST /_control/rotate?kid=NEW[&keep]   sign with a new key, and keep the old ones in the set or not
//   POST /_control/down, /_control/up      hang up on everybody but the test
//   GET  /_control/counts                  how often each path was asked
//   POST /_control/proof                   {htm, htu, ath?, nonce?} → a DPoP proof with the provider's own test key
//
// Clients: `app` (secret `app-secret`) gets tokens, `gate` (secret `gate-secret`) may introspect them, and so may
// `signed` (secret `signed-secret`), who can ask for signed answers.
// Resources: https://api.example/jwt and https://api.example/opaque; both have the scope `read`.
import { createHash, createSign, generateKeyPairSync, randomUUID, webcrypto } from 'node:crypto';
import { createServer } from 'node:http';

globalThis.crypto ??= webcrypto;
console.info = console.warn = () => {};
const { default: Provider } = await import('oidc-provider');

const signingKey = (kid) => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'ES256' };
};
// The provider wants one for the ID tokens that it is asked for by default.
const { privateKey: rsa } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const idTokenKey = { ...rsa.export({ format: 'jwk' }), kid: 'id-token', use: 'sig', alg: 'RS256' };
let keys = [signingKey('k1')];

const client = (id) => ({
  client_id: id,
  client_secret: `${id}-secret`,
  grant_types: id === 'app' ? ['client_credentials'] : [],
  redirect_uris: [],
  response_types: [],
  scope: 'read',
  ...(id === 'signed' ? { introspection_signed_response_alg: 'ES256' } : {}),
});
const configuration = () => ({
  jwks: { keys: [...keys, idTokenKey] },
  clients: [client('app'), client('gate'), client('signed')],
  scopes: ['read'],
  cookies: { keys: ['for tests'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: true },
    jwtIntrospection: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://api.example/jwt',
      getResourceServerInfo: (_context, resource) => ({
        audience: resource,
        scope: 'read',
        accessTokenTTL: 300,
        accessTokenFormat: resource.endsWith('/opaque') ? 'opaque' : 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});

// A proof by hand, so that it is not the code under test that makes it, and so that a test can make bad ones.
const proofKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const base64url = (value) => Buffer.from(value).toString('base64url');
const proof = (claims) => {
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: proofKey.publicKey.export({ format: 'jwk' }) };
  const payload = { jti: randomUUID(), iat: Math.floor(Date.now() / 1000), ...claims };
  const input = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(payload))}`;
  const signature = createSign('sha256').update(input).sign({ key: proofKey.privateKey, dsaEncoding: 'ieee-p1363' });
  return `${input}.${base64url(signature)}`;
};

let handler;
let isDown = false;
const counts = {};
const body = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};

const control = async (request, url) => {
  switch (url.pathname) {
    case '/_control/rotate': {
      const next = signingKey(url.searchParams.get('kid'));
      keys = url.searchParams.has('keep') ? [next, ...keys] : [next];
      start();
      return {};
    }
    case '/_control/down':
    case '/_control/up':
      isDown = url.pathname === '/_control/down';
      return {};
    case '/_control/counts':
      return counts;
    case '/_control/proof': {
      const { token, ...claims } = JSON.parse(await body(request));
      if (token) claims.ath = createHash('sha256').update(token).digest('base64url');
      return { proof: proof(claims) };
    }
    default:
      return { error: 'no such control' };
  }
};

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://provider');
  if (url.pathname.startsWith('/_control/')) {
    const answer = JSON.stringify(await control(request, url));
    response.writeHead(200, { 'content-type': 'application/json' }).end(answer);
    return;
  }
  counts[url.pathname] = (counts[url.pathname] ?? 0) + 1;
  if (isDown) {
    request.socket.destroy();
    return;
  }
  handler(request, response);
});

let issuer;
const start = () => {
  handler = new Provider(issuer, configuration()).callback();
};
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  start();
  process.stdout.write(`listening on ${issuer}\n`);
});
