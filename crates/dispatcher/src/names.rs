//! Who is asked for a name's addresses. A question is a message or two and a timer; the system's
//! own resolver would need a thread for each, and names that are slow to resolve would hold up
//! everybody's.
//!
//! Names are taken as they stand: under a search domain, one that a subscriber wrote would become
//! one of ours.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;

/// How long a question may take, however much time its request has.
const LONGEST: Duration = Duration::from_secs(5);

/// How often a question is asked: messages get lost.
const ASKED: u32 = 3;

/// How often we look whether the system's files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the system says of names; a laptop that changes networks changes it.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What is known of a name.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// All of its addresses.
    pub(crate) addresses: Arc<[IpAddr]>,
    /// Until when its owner stands by them.
    pub(crate) until: Instant,
}

/// The name servers, and the hosts file before them.
pub(crate) struct Names {
    servers: Vec<SocketAddr>,
    patience: Duration,
    current: Mutex<Current>,
}

struct Current {
    resolver: TokioResolver,
    files: Changed,
    looked: Instant,
}

/// When each of [`FILES`] changed last.
type Changed = [Option<SystemTime>; 2];

impl Names {
    /// Asks `servers`, or those of the system where there are none. An answer takes no more than
    /// half of `deadline`, so that a request whose name is slow does not end as one whose
    /// receiver is.
    ///
    /// # Errors
    /// When no resolver can be made.
    pub(crate) fn new(servers: Vec<SocketAddr>, deadline: Duration) -> Result<Self, NetError> {
        let patience = LONGEST.min(deadline / 2);
        let current = Current {
            files: changed(),
            resolver: resolver(&servers, patience)?,
            looked: Instant::now(),
        };
        Ok(Self {
            servers,
            patience,
            current: Mutex::new(current),
        })
    }

    /// The addresses of a name, if it has any.
    pub(crate) async fn ask(&self, name: &str) -> Option<Found> {
        let mut absolute = Name::from_ascii(name).ok()?;
        absolute.set_fqdn(true);
        let resolver = self.resolver();
        let asked = tokio::time::timeout(self.patience, resolver.lookup_ip(absolute)).await;
        match asked {
            Ok(Ok(found)) => Some(Found {
                addresses: found.iter().collect(),
                until: found.valid_until(),
            }),
            Ok(Err(why)) => {
                tracing::debug!(name, %why, "a name did not resolve");
                None
            }
            Err(_) => {
                tracing::debug!(name, "a name did not resolve in time");
                None
            }
        }
    }

    fn resolver(&self) -> TokioResolver {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let files = changed();
            if files != current.files {
                current.files = files;
                match resolver(&self.servers, self.patience) {
                    Ok(resolver) => current.resolver = resolver,
                    Err(why) => tracing::warn!(%why, "the name servers stay as they were"),
                }
            }
        }
        current.resolver.clone()
    }
}

fn changed() -> Changed {
    FILES.map(|file| std::fs::metadata(file).and_then(|it| it.modified()).ok())
}

fn resolver(servers: &[SocketAddr], patience: Duration) -> Result<TokioResolver, NetError> {
    let servers = match servers {
        [] => of_the_system(),
        servers => servers.iter().map(|server| at(*server)).collect(),
    };
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = patience / ASKED;
    options.attempts = ASKED as usize - 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    // Whoever asks remembers what was said.
    options.cache_size = 0;
    builder.build()
}

/// A machine without name servers still knows the names in its hosts file.
fn of_the_system() -> Vec<NameServerConfig> {
    match read_system_conf() {
        Ok((config, _)) => config.name_servers().to_vec(),
        Err(why) => {
            tracing::warn!(%why, "the system names no name server: no name will resolve");
            Vec::new()
        }
    }
}

fn at(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    config
}
