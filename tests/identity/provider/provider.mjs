// A real OpenID provider (oidc-provider) for tests: node provider.mjs CONFIG.json, where CONFIG holds issuer, port, tls, client, accounts, keys.
// Whoever signs in says at /interaction/UID?account=NAME&amr=pwd,otp&acr=VALUE who they are and what they proved; nothing is typed.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { Provider } from 'oidc-provider';

const read = () => JSON.parse(readFileSync(process.argv[2], 'utf8'));
let config = read();

function made(keys) {
  const provider = new Provider(config.issuer, {
    clients: [config.client],
    jwks: { keys },
    cookies: { keys: ['of the tests alone'] },
    conformIdTokenClaims: config.thin !== false,
    acrValues: ['urn:two-factors'],
    claims: {
      acr: null,
      amr: null,
      auth_time: null,
      sid: null,
      openid: ['sub', 'acr', 'amr'],
      profile: ['name', 'preferred_username', 'groups'],
      email: ['email', 'email_verified'],
    },
    async findAccount(ctx, id) {
      return { accountId: id, claims: async () => ({ sub: id, ...config.accounts[id] }) };
    },
    // The tests wait for logout tokens on loopback, where the provider's own fetch goes nowhere.
    fetch: (url, { method, headers, body }) => fetch(url, { method, headers, body }),
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    ttl: { Interaction: 600, Session: 3600, Grant: 3600, AuthorizationCode: 60, AccessToken: 600, IdToken: 600 },
  });
  return { provider, answer: provider.callback() };
}

async function interact(provider, request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  const asked = new URL(request.url, config.issuer).searchParams;
  let result;
  if (asked.has('error')) {
    result = { error: asked.get('error') };
  } else if (prompt.name === 'login' && !asked.has('account')) { // a browser that a person sits at: the page waits for them
    response.setHeader('content-type', 'text/html');
    response.end('<!doctype html><title>Who is it?</title>');
    return;
  } else if (prompt.name === 'login') {
    const login = { accountId: asked.get('account') };
    if (asked.has('amr')) login.amr = asked.get('amr').split(',');
    if (asked.has('acr')) login.acr = asked.get('acr');
    result = { login };
  } else {
    const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope('openid profile email');
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: prompt.name !== 'login' });
}

let current = made(config.keys.slice(0, 1));
const tls = { cert: readFileSync(config.tls.certificate), key: readFileSync(config.tls.key) };
const server = createServer(tls, (request, response) => {
  if (request.url === '/rotate') {
    current = made(config.keys.slice(1));
    response.end();
  } else if (request.url === '/reload') { // other accounts, another secret
    config = read();
    current = made(config.keys.slice(0, 1));
    response.end();
  } else if (request.url.startsWith('/interaction/')) {
    interact(current.provider, request, response).catch((error) => {
      response.statusCode = 500;
      response.end(String(error));
    });
  } else {
    current.answer(request, response);
  }
});
server.listen(config.port, '127.0.0.1', () => console.log('ready'));
