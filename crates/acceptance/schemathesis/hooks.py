"""What the document cannot say: a page begins at a cursor or at an offset, not at both; a time ends after its
beginning; and a host's name has at most 253 characters (RFC 1035, 2.3.4) and is public. Nor that DELETE stops a replay and
does not remove it: along the links of the document, a tester asks whether what was deleted is gone."""

from datetime import datetime
from urllib.parse import urlsplit

import schemathesis

NEVER_PUBLIC = {"alt", "example", "internal", "invalid", "local", "localhost", "onion", "test"}


@schemathesis.hook
def filter_case(context, case):
    if {"cursor", "offset"} <= set(case.query or {}):
        return False
    if case.operation.label == "DELETE /replays/{id}" and case.meta.phase.name == "stateful":
        return False
    if isinstance(case.body, dict) and not is_callable(case.body.get("url")):
        return False
    return all(is_forward(fields) for fields in (case.query, case.body) if isinstance(fields, dict))


def is_callable(url):
    try:
        name = urlsplit(url).hostname.removesuffix(".")
    except (AttributeError, TypeError, ValueError):
        return True
    return len(name) <= 253 and "." in name and name.rsplit(".", 1)[1] not in NEVER_PUBLIC


def is_forward(fields):
    try:
        return datetime.fromisoformat(fields["since"]) < datetime.fromisoformat(fields["until"])
    except (KeyError, TypeError, ValueError):
        return True
