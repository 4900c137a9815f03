import { createHmac, timingSafeEqual } from "node:crypto";

/**
 * Whether Hookline sent this request in the last five minutes.
 * `headers` as node:http gives them; `body` is the Buffer as it came, not parsed.
 */
export function verify(secret, headers, body, now = Date.now() / 1000) {
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(timestamp) || Math.abs(now - Number(timestamp)) > 300) return false;
  const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : secret;
  const signed = createHmac("sha256", key).update(`${headers["webhook-id"]}.${timestamp}.`).update(body);
  const ours = `v1,${signed.digest("base64")}`;
  return (headers["webhook-signature"] ?? "").split(" ").some((theirs) => same(ours, theirs));
}

/**
 * The same by the older headers, which do not cover the time: a copy is as good as the original.
 * During a rotation the new secret signs the first header and the old one the second.
 */
export function verifyBody(secret, headers, body) {
  const ours = createHmac("sha256", secret).update(body).digest("hex");
  const names = ["x-webhook-signature", "x-webhook-signature-previous"];
  return names.some((name) => same(ours, headers[name] ?? ""));
}

function same(ours, theirs) {
  const [a, b] = [Buffer.from(ours), Buffer.from(theirs)];
  return a.length === b.length && timingSafeEqual(a, b);
}
