import { Webhook } from "standardwebhooks";

/** The event, or an exception. `body` is the Buffer as it came, not parsed. */
export function verify(secret, headers, body) {
  const webhook = secret.startsWith("whsec_")
    ? new Webhook(secret)
    : new Webhook(Buffer.from(secret), { format: "raw" });
  return webhook.verify(body, headers);
}
