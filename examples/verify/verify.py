import base64
import hmac
import re
import time


def verify(secret, headers, body, now=None):
    """Whether Hookline sent this request in the last five minutes.

    `headers` gives None for a name it lacks; `body` is the bytes as they came, not parsed.
    """
    timestamp = headers.get("webhook-timestamp") or ""
    if not re.fullmatch("[0-9]{1,11}", timestamp):
        return False
    if abs((time.time() if now is None else now) - int(timestamp)) > 300:
        return False
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers.get('webhook-id')}.{timestamp}.".encode() + body
    ours = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    theirs = headers.get("webhook-signature") or ""
    return any(hmac.compare_digest(ours.encode(), one.encode()) for one in theirs.split(" "))


def verify_body(secret, headers, body):
    """The same by the older headers, which do not cover the time: a copy is as good as the original.

    During a rotation the new secret signs the first header and the old one the second.
    """
    ours = hmac.digest(secret.encode(), body, "sha256").hex().encode()
    names = ("x-webhook-signature", "x-webhook-signature-previous")
    return any(hmac.compare_digest(ours, (headers.get(name) or "").encode()) for name in names)
