use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::rate_limit::Rate;
use hookline_core::target::{IpNet, Networks, Ports, Schemes, TargetRules};
use serde::Deserialize;

use super::validators;

/// Rules for the URLs of subscriptions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    #[serde(deserialize_with = "validators::boolean")]
    pub allow_http: bool,
    /// Private, local and reserved addresses, and any port.
    #[serde(deserialize_with = "validators::boolean")]
    pub allow_private_networks: bool,
    #[serde(deserialize_with = "validators::networks")]
    pub allow_networks: Arc<[IpNet]>,
    #[serde(deserialize_with = "validators::ports")]
    pub ports: Arc<[u16]>,
    /// DNS servers. Empty means those of the system.
    #[serde(deserialize_with = "validators::name_servers")]
    pub name_servers: Vec<SocketAddr>,
    /// PEM certificates that are trusted in addition to the system's.
    #[serde(deserialize_with = "validators::path")]
    pub extra_ca_file: Option<PathBuf>,
    /// 0 means no limit.
    #[serde(deserialize_with = "validators::number::<0, 1_000_000, _, _>")]
    pub max_per_second_per_origin: u32,
}

impl TargetSettings {
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

    pub fn origin_rate(&self) -> Option<Rate> {
        let count = self.max_per_second_per_origin;
        (count > 0).then(|| Rate::new(count, Duration::from_secs(1)))
    }
}
