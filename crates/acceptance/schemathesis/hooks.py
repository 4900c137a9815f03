"""What the document cannot say: a cursor is one that the same list gave; a time or a range of codes ends after its
beginning; a host's name has at most 253 characters (RFC 1035, 2.3.4) and is public; an idempotency key is for one body; an entity tag is
one that the API gave; events are of the key's organization; and the time of GET /stats is at most 1,500 steps, and recent
for steps of a minute. Nor that DELETE stops a replay and does not remove it:
along the links of the document, a tester asks whether what was deleted is gone. And that a good answer of GET /stream does
not end: only bad requests are sent there.

HOOKLINE_PUBLISHED names a file that gets a line for each request whose events were taken."""

import os
import uuid
from datetime import datetime
from urllib.parse import urlsplit

import schemathesis

NEVER_PUBLIC = {"alt", "example", "internal", "invalid", "local", "localhost", "onion", "test"}
ORGANIZATION = "org_123"


@schemathesis.hook
def filter_case(context, case):
    if case.operation.label == "DELETE /replays/{id}" and case.meta.phase.name == "stateful":
        return False
    if case.operation.label == "GET /stream" and case.meta.generation.mode.is_positive:
        return False
    if isinstance(case.body, dict) and not is_callable(case.body.get("url")):
        return False
    return all(is_forward(fields) for fields in (case.query, case.body) if isinstance(fields, dict))


@schemathesis.hook
def map_case(context, case):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    headers = case.headers or {}
    for name in list(headers):
        if name.lower() in ("if-match", "if-none-match"):
            del headers[name]
        elif name.lower() == "idempotency-key":
            headers[name] = str(uuid.uuid4())
    for name in list(case.query or {}):
        if name.endswith("cursor"):
            del case.query[name]
        elif case.operation.label == "GET /stats" and name in ("since", "until"):
            del case.query[name]
    if case.operation.label == "POST /events":
        events = case.body if isinstance(case.body, list) else [case.body]
        for event in events:
            if isinstance(event, dict):
                event["organization_id"] = ORGANIZATION
    return case


@schemathesis.hook
def after_call(context, case, response):
    if case.operation.label == "POST /events" and response.status_code == 202:
        with open(os.environ["HOOKLINE_PUBLISHED"], "a") as published:
            published.write("202\n")


def is_callable(url):
    try:
        name = urlsplit(url).hostname.removesuffix(".")
    except (AttributeError, TypeError, ValueError):
        return True
    return len(name) <= 253 and "." in name and name.rsplit(".", 1)[1] not in NEVER_PUBLIC


def is_forward(fields):
    first, _, last = str(fields.get("response_status", "")).partition("-")
    if first.isdecimal() and last.isdecimal() and int(first) > int(last):
        return False
    try:
        return datetime.fromisoformat(fields["since"]) < datetime.fromisoformat(fields["until"])
    except (KeyError, TypeError, ValueError):
        return True
