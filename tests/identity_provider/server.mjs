// An identity provider made with oidc-provider (certified by the OpenID Foundation), at whose sign-in page the
// same person always is. `PUT /person` says who: the members are their claims, `sub` among them.
//
//   node server.mjs PORT       (after `npm ci` here)
//
// Its one client is "tollgate", with the secret "a secret of the tests", at 127.0.0.1 and any port. A person who
// has `"refuses": true` does not go on.

import http from "node:http";

import { Provider } from "oidc-provider";

const port = Number(process.argv[2]);
let person = { sub: "nobody" };

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "tollgate",
      client_secret: "a secret of the tests",
      application_type: "native", // so that the port of the redirect does not matter (RFC 8252, section 7.3)
      redirect_uris: ["http://127.0.0.1/accounts/oidc/callback/"],
    },
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "given_name", "groups", "realm_access"] },
  cookies: { keys: ["a key of the tests"] },
  features: { devInteractions: { enabled: false } },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ ...person, sub }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  pkce: { required: () => true },
});

async function grant(interaction) {
  const given = new provider.Grant({ accountId: person.sub, clientId: interaction.params.client_id });
  given.addOIDCScope(interaction.params.scope);
  return given.save();
}

async function interact(request, response) {
  const interaction = await provider.interactionDetails(request, response);
  const result = person.refuses
    ? { error: "access_denied" }
    : { login: { accountId: person.sub }, consent: { grantId: await grant(interaction) } };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

function read(request) {
  return new Promise((resolve) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => resolve(Buffer.concat(pieces).toString()));
  });
}

const answer = provider.callback();

http
  .createServer(async (request, response) => {
    if (request.method === "PUT") {
      person = JSON.parse(await read(request));
      return response.end();
    }
    return request.url.startsWith("/interaction/") ? interact(request, response) : answer(request, response);
  })
  .listen(port, "127.0.0.1");
