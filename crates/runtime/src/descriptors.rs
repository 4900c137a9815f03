//! The limit of open files. Each connection needs a file descriptor. A shell or a service manager often sets a soft
//! limit of 1,024, which the process may raise to the hard limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for connections to receivers, the store and the broker, and for files.
const RESERVED: u64 = 1_000;

/// Raises the soft limit to the hard limit.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// The number of connections for which the limit of open files has room, at most `wanted`. A warning names `setting`
/// where they are fewer.
pub fn connections(setting: &str, wanted: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return wanted;
    };
    let possible = without_reserved(limit);
    if possible < wanted {
        tracing::warn!(
            setting,
            wanted,
            possible,
            open_files = limit,
            "the limit of open files has room for fewer connections: raise it (`ulimit -n`, \
             LimitNOFILE=, --ulimit nofile=) or lower the setting"
        );
    }
    possible.min(wanted)
}

fn without_reserved(limit: u64) -> usize {
    let left = limit - RESERVED.min(limit / 2);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_limit() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let lower = maximum.unwrap_or(u64::MAX).min(4_096);
        let low = Rlimit {
            current: Some(lower),
            maximum,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }

    #[test]
    fn connections_leave_descriptors_for_other_uses() {
        assert_eq!(without_reserved(1_024), 512);
        assert_eq!(without_reserved(20_000), 19_000);
        assert_eq!(connections("api.max_connections", 10), 10);
    }
}
