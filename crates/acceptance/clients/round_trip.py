"""Registers a subscription, publishes an event and reads both, with the client that openapi-python-client has made."""

import os
from datetime import datetime, timezone

from hookline_client import AuthenticatedClient
from hookline_client.api.events import get_event, publish_events
from hookline_client.api.subscriptions import create_webhook, delete_webhook, list_webhooks, update_webhook
from hookline_client.models import (
    CreatedSubscription,
    Event,
    EventData,
    EventPattern,
    EventType,
    NewSubscription,
    Subscription,
    SubscriptionPatch,
)

client = AuthenticatedClient(base_url=os.environ["HOOKLINE_URL"] + "/v1", token=os.environ["HOOKLINE_KEY"])
new = NewSubscription(name="python", url="https://example.com/hooks", events=[EventPattern.WORKFLOW_FAILED])
made = create_webhook.sync(client=client, body=new)
assert isinstance(made, CreatedSubscription) and made.events == [EventPattern.WORKFLOW_FAILED], made
assert made.disabled_reason is None and made.id in [one.id for one in list_webhooks.sync(client=client).webhooks]

changed = update_webhook.sync(made.id, client=client, body=SubscriptionPatch(is_active=False))
assert isinstance(changed, Subscription) and not changed.is_active, changed

event = Event(
    event_type=EventType.WORKFLOW_FAILED,
    workflow_id="wf_python",
    organization_id=os.environ["HOOKLINE_ORGANIZATION"],
    timestamp=datetime.now(timezone.utc),
    data=EventData.from_dict({"order": 7}),
)
accepted = publish_events.sync_detailed(client=client, body=event)
assert accepted.status_code == 202, accepted
assert len(accepted.parsed.accepted) == 1, accepted

assert get_event.sync_detailed("evt_none", client=client).status_code == 404
assert delete_webhook.sync_detailed(made.id, client=client).status_code == 204
