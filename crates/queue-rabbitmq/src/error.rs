//! Why a connection could not be opened.

use std::fmt;
use std::time::Duration;

/// Why there is no connection. No text of it shows the URL, which holds a password.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// The URL is wrong, or asks for what this build cannot do.
    #[error("the broker URL {0}")]
    Address(&'static str),
    /// Nobody to vouch for the broker can be read.
    #[error("the broker URL's cacertfile cannot be read")]
    Roots(#[source] std::io::Error),
    /// No host let us in.
    #[error("cannot connect to the broker: {0}")]
    Unreachable(HostFailures),
}

impl RabbitError {
    /// Whether a host refused what only an operator changes. The hosts of a cluster share users and rights, so one of
    /// them speaks for all.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Unreachable(HostFailures(failures)) => failures
                .iter()
                .any(|failure| matches!(failure.why, HostFault::Refused(_))),
            Self::Address(_) | Self::Roots(_) => false,
        }
    }
}

/// How each host failed, in the order in which they were tried.
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

/// What is wrong with one host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostFault {
    /// Nothing there answered as a broker does.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// It could not be reached, or did not let us in.
    #[error("{0}")]
    Connect(lapin::Error),
    /// It refuses the user, the vhost or a right. The text says what an operator does about it.
    #[error("{0}")]
    Refused(String),
    /// It has exchanges or queues of our names that differ from ours.
    #[error("cannot declare the exchanges and queues: {0}")]
    Topology(lapin::Error),
}
