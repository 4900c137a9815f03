use std::fmt;
use std::time::Duration;

#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://` or `amqps://`, with user, password and vhost. The hosts of a cluster have a comma between and are tried in
    /// turn. Its only parameters are `heartbeat` (seconds), `connection_timeout` (milliseconds) and, with `amqps`,
    /// `cacertfile`: a file of CA certificates in PEM (<https://www.rabbitmq.com/docs/uri-query-parameters>).
    pub url: String,
    /// The name of the connection in the broker's management.
    pub name: String,
    /// How long a confirm may take.
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
