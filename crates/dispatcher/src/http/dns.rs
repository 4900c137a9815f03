//! DNS resolution, with a query of its own for each address family. A server may answer only one of the two queries, or
//! one of them late. It then delays no request (RFC 8305, 3). A query is a message or two and a timer. The system's own
//! resolver would need a thread for each. Names that are slow to resolve would then delay those of all customers.
//!
//! Names are taken as they stand: under a search domain, a customer's name would become an internal one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use parking_lot::Mutex;

/// The longest time of a query, even if its request has more time.
const LONGEST: Duration = Duration::from_secs(5);

/// The number of name servers that are asked at once: all that a `resolv.conf` may have. Dead ones thus cost no time.
/// Each gets the query up to three times. An answer to any of them counts until the patience ends. A server that takes
/// two seconds is slow and not dead.
const SERVERS: usize = 3;

/// The most addresses of one family that a name may have. An answer has room for four thousand, and ten thousand names
/// are cached.
const MOST: usize = 64;

/// The time between two checks whether the system's files have changed.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// The system's files for name resolution; a laptop that changes networks changes them.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// An address family, which has a query of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressFamily {
    V4,
    V6,
}

impl From<AddressFamily> for RecordType {
    fn from(family: AddressFamily) -> Self {
        match family {
            AddressFamily::V4 => RecordType::A,
            AddressFamily::V6 => RecordType::AAAA,
        }
    }
}

/// The addresses of one family that a name has; at least one.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedAddresses {
    pub(crate) addresses: Arc<[IpAddr]>,
    /// The end of their time to live.
    pub(crate) until: Instant,
}

/// The name servers, and the hosts file before them.
pub(crate) struct DnsResolver {
    servers: Vec<SocketAddr>,
    patience: Duration,
    current: Mutex<Current>,
}

struct Current {
    resolver: TokioResolver,
    files: FileTimes,
    checked_at: Instant,
}

/// The last change of each of [`FILES`].
type FileTimes = [Option<SystemTime>; 2];

impl DnsResolver {
    /// Asks `servers`, or those of the system where there are none. An answer takes no more than three quarters of
    /// `deadline`. A request with a slow name thus does not end as one with a slow receiver.
    ///
    /// # Errors
    /// When no resolver can be made.
    pub(crate) fn new(servers: Vec<SocketAddr>, deadline: Duration) -> Result<Self, NetError> {
        let patience = LONGEST.min(deadline * 3 / 4);
        let current = Current {
            files: file_times(),
            resolver: resolver(&servers, patience)?,
            checked_at: Instant::now(),
        };
        Ok(Self {
            servers,
            patience,
            current: Mutex::new(current),
        })
    }

    /// The addresses of a name in one family, if it has any.
    pub(crate) async fn resolve(
        &self,
        name: &str,
        family: AddressFamily,
    ) -> Option<ResolvedAddresses> {
        let mut absolute = Name::from_ascii(name).ok()?;
        absolute.set_fqdn(true);
        let resolver = self.resolver();
        let asking = resolver.lookup(absolute, family.into());
        match tokio::time::timeout(self.patience, asking).await {
            Ok(Ok(found)) => {
                let records = found.answers().iter();
                let addresses: Arc<[IpAddr]> =
                    records.filter_map(|record| record.data.ip_addr()).collect();
                let until = found.valid_until();
                if addresses.len() > MOST {
                    tracing::debug!(name, ?family, "ignored name with too many addresses");
                    return None;
                }
                (!addresses.is_empty()).then_some(ResolvedAddresses { addresses, until })
            }
            Ok(Err(why)) => {
                tracing::debug!(name, ?family, %why, "could not resolve name");
                None
            }
            Err(_) => {
                tracing::debug!(name, ?family, "could not resolve name in time");
                None
            }
        }
    }

    fn resolver(&self) -> TokioResolver {
        let mut current = self.current.lock();
        if current.checked_at.elapsed() >= CHECK_EVERY {
            current.checked_at = Instant::now();
            let files = file_times();
            if files != current.files {
                current.files = files;
                match resolver(&self.servers, self.patience) {
                    Ok(resolver) => current.resolver = resolver,
                    Err(why) => {
                        tracing::warn!(%why, "could not reload name servers, keeping the earlier ones")
                    }
                }
            }
        }
        current.resolver.clone()
    }
}

fn file_times() -> FileTimes {
    FILES.map(|file| std::fs::metadata(file).and_then(|it| it.modified()).ok())
}

fn resolver(servers: &[SocketAddr], patience: Duration) -> Result<TokioResolver, NetError> {
    let servers = match servers {
        [] => system_servers(),
        servers => servers.iter().map(|server| at(*server)).collect(),
    };
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = patience;
    options.num_concurrent_reqs = SERVERS;
    options.use_hosts_file = ResolveHosts::Always;
    // The caller has a cache of its own.
    options.cache_size = 0;
    builder.build()
}

/// A machine without name servers still knows the names in its hosts file.
fn system_servers() -> Vec<NameServerConfig> {
    match read_system_conf() {
        Ok((config, _)) => config.name_servers().to_vec(),
        Err(why) => {
            tracing::warn!(%why, "could not read the system's name servers: no name will resolve");
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
