//! Errors of connecting.

use std::fmt;
use std::time::Duration;

/// No text of it shows the URL, which contains a password.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// The URL is invalid, or needs a feature that this build does not have.
    #[error("the broker URL {0}")]
    Url(&'static str),
    #[error("the broker URL's cacertfile cannot be read")]
    Roots(#[source] std::io::Error),
    /// No host accepted the connection.
    #[error("cannot connect to the broker: {0}")]
    Unreachable(HostFailures),
}

impl RabbitError {
    /// Whether a host refused the connection for a reason that only an operator changes. The hosts of a cluster share users
    /// and rights, so one refusal speaks for all.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Unreachable(HostFailures(failures)) => failures
                .iter()
                .any(|failure| matches!(failure.why, HostFault::Refused(_))),
            Self::Url(_) | Self::Roots(_) => false,
        }
    }
}

/// The failure of each host, in the order of the attempts.
#[derive(Debug)]
pub struct HostFailures(pub(crate) Vec<HostFailure>);

#[derive(Debug)]
pub(crate) struct HostFailure {
    pub(crate) host: String,
    pub(crate) why: HostFault,
}

impl fmt::Display for HostFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, HostFailure { host, why }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{host}: {why}")?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HostFault {
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// The host cannot be reached or did not accept the connection.
    #[error("{0}")]
    Connect(lapin::Error),
    /// The host refuses the user, the vhost or a right. The text says what an operator does about it.
    #[error("{0}")]
    Refused(String),
    /// The host has exchanges or queues of the same names with other arguments.
    #[error("cannot declare the exchanges and queues: {0}")]
    Topology(lapin::Error),
}
