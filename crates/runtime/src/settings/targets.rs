use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::rate_limit::Rate;
use hookline_core::target::{IpNet, Networks, Ports, Schemes, TargetRules};
use serde::Deserialize;

use super::allowed;

/// `[targets]`: where subscriptions may point.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// Whether `http://` will do.
    pub allow_http: bool,
    /// Whether private, local and reserved addresses will do, and any port.
    pub allow_private_networks: bool,
    /// Networks that will do although they are private.
    #[serde(deserialize_with = "allowed::networks")]
    pub allow_networks: Arc<[IpNet]>,
    /// Ports that will do.
    #[serde(deserialize_with = "allowed::ports")]
    pub ports: Arc<[u16]>,
    /// Who is asked for the addresses of names; nobody stands for the system's name servers.
    #[serde(deserialize_with = "allowed::name_servers")]
    pub name_servers: Vec<SocketAddr>,
    /// Certificates that are trusted besides the system's, as PEM.
    #[serde(deserialize_with = "allowed::path")]
    pub extra_ca_file: Option<PathBuf>,
    /// Requests that one origin gets in a second at most; 0 stands for no limit.
    #[serde(deserialize_with = "allowed::number::<0, 1_000_000, _, _>")]
    pub max_per_second_per_origin: u32,
}

impl TargetSettings {
    /// The rules that they stand for.
    pub fn rules(&self) -> TargetRules {
        TargetRules {
            schemes: match self.allow_http {
                true => Schemes::HttpToo,
                false => Schemes::HttpsOnly,
            },
            networks: match self.allow_private_networks {
                true => Networks::Any,
                false => Networks::PublicAnd(self.allow_networks.clone()),
            },
            ports: match self.allow_private_networks {
                true => Ports::Any,
                false => Ports::These(self.ports.clone()),
            },
        }
    }

    /// How often one origin is called at most.
    pub fn origin_rate(&self) -> Option<Rate> {
        let count = self.max_per_second_per_origin;
        (count > 0).then(|| Rate::new(count, Duration::from_secs(1)))
    }
}
