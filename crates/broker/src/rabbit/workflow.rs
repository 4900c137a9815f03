//! Publishing as a workflow service does. Whoever tries Hookline on a broker takes the way of
//! everybody's events, through the exchange, and not one that only we know.

use hookline_core::event::Event;

use crate::contract::QueueError;
use crate::rabbit::Rabbit;
use crate::rabbit::letter::workflow_event;
use crate::rabbit::outbox::{Audience, Post};
use crate::rabbit::topology::PUBLISHED;

impl Rabbit {
    /// Returns once all of the events are durable. Some may be when it fails; one that is
    /// published again is the same event.
    ///
    /// # Errors
    /// [`QueueError`] when the broker does not have all of them.
    pub async fn publish_as_workflow_service(
        &self,
        events: impl IntoIterator<Item = &Event>,
    ) -> Result<(), QueueError> {
        let posts = events.into_iter().map(post).collect();
        self.outbox.send(posts).await
    }
}

fn post(event: &Event) -> Post {
    let (body, properties) = workflow_event(event.body.clone());
    Post {
        exchange: PUBLISHED.to_owned(),
        routing_key: event.event_type.as_str().to_owned(),
        body,
        properties,
        audience: Audience::Ours,
    }
}
