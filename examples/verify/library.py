from standardwebhooks import Webhook


def verify(secret, headers, body):
    """The event, or an exception. `body` is the bytes as they came, not parsed."""
    key = secret if secret.startswith("whsec_") else secret.encode()
    return Webhook(key).verify(body, dict(headers))
