// Reads cases as JSON and prints which of them are accepted.
const crypto = require("node:crypto");
const { Webhook } = require("standardwebhooks");

function acceptsSecret({ secret, headers, body }) {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

// The library knows symmetric signatures only; this is Node's own Ed25519.
function acceptsKey({ headers, body, public_key: text }) {
  if (!text) return true;
  const x = Buffer.from(text.replace(/^whpk_/, ""), "base64").toString("base64url");
  const key = crypto.createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const message = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
  const parts = headers["webhook-signature"].split(" ").filter((part) => part.startsWith("v1a,"));
  return parts.some((part) =>
    crypto.verify(null, Buffer.from(message), key, Buffer.from(part.slice(4), "base64")),
  );
}

let text = "";
process.stdin.on("data", (chunk) => (text += chunk));
process.stdin.on("end", () => {
  const said = JSON.parse(text).map((one) => acceptsSecret(one) && acceptsKey(one));
  process.stdout.write(JSON.stringify(said));
});
