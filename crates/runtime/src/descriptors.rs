//! File descriptors. Each connection needs one, and the limit that a shell or a service manager sets
//! (often 1,024) is lower than what the process may ask for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept for connections to receivers, the store and the broker, and for files.
const FOR_THE_REST: u64 = 1_000;

/// Raises the limit of open files as far as the process may.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// How many of the `wanted` connections that `setting` allows the limit of open files leaves room for;
/// where it is fewer, a WARN says so.
pub fn connections(setting: &str, wanted: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return wanted;
    };
    let possible = beside_the_rest(limit);
    if possible < wanted {
        tracing::warn!(
            setting,
            wanted,
            possible,
            open_files = limit,
            "the limit of open files leaves room for fewer connections: raise it (`ulimit -n`, \
             LimitNOFILE=, --ulimit nofile=) or lower the setting"
        );
    }
    possible.min(wanted)
}

fn beside_the_rest(limit: u64) -> usize {
    let left = limit - FOR_THE_REST.min(limit / 2);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_it_may() {
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
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(beside_the_rest(1_024), 512);
        assert_eq!(beside_the_rest(20_000), 19_000);
        assert_eq!(connections("api.max_connections", 10), 10);
    }
}
