// A certified OpenID provider for the tests, with its own development pages to sign in at.
// Usage: node server.mjs SETTINGS.json, which holds port, issuer, jwks, clients and audience.
// Whoever signs in is who they say they are: any password will do.
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));

const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  jwks: settings.jwks,
  cookies: { keys: ['for the tests alone'] },
  claims: { openid: ['sub'], profile: ['preferred_username'], email: ['email'] },
  scopes: ['openid', 'profile', 'email', 'offline_access'],
  pkce: { required: () => true },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, email: `${id}@example.org` }),
  }),
  // As with a site's own provider: a user's name is in its access tokens for the API.
  extraTokenClaims: (_context, token) => ({ preferred_username: token.accountId }),
  features: {
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        scope: 'clusters:read jobs:read jobs:write',
        audience: settings.audience,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
      }),
      useGrantedResource: () => true,
    },
  },
});

provider.listen(settings.port, '127.0.0.1', () => console.log('ready'));
