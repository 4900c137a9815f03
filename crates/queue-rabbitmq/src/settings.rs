//! How to reach the broker.

use std::fmt;
use std::time::Duration;

/// Which broker, and how patient we are with it.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://` or `amqps://`, with user, password and vhost, and the hosts of a cluster with a comma
    /// between, which are tried in turn. Its only parameters are `heartbeat`
    /// (seconds), `connection_timeout` (milliseconds) and, with `amqps`, `cacertfile`: a file of
    /// certificates (PEM) that vouch for the broker (<https://www.rabbitmq.com/docs/uri-query-parameters>).
    pub url: String,
    /// What the broker's operator sees the connection as.
    pub name: String,
    /// How long a message may take to be durable.
    pub confirm_timeout: Duration,
}

impl fmt::Debug for RabbitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitSettings")
            .field("name", &self.name)
            .field("confirm_timeout", &self.confirm_timeout)
            .finish_non_exhaustive()
    }
}
