//! URLs of a cluster: several hosts with a comma between, as in `amqp://user:password@a:5672,b:5672/vhost`.

/// A URL for each host, in their order, equal but for the host. A text that is no such URL is itself.
pub fn each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    // A password may hold a comma.
    let hosts_at = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, hosts) = authority.split_at(hosts_at);
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{host}{behind}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_gets_the_rest_of_the_url() {
        for (url, all) in [
            ("amqp://h/v", vec!["amqp://h/v"]),
            (
                "amqp://u:p@a:1,b/v?heartbeat=5",
                vec!["amqp://u:p@a:1/v?heartbeat=5", "amqp://u:p@b/v?heartbeat=5"],
            ),
            (
                "amqps://u:p,q@[::1]:1,[::2]",
                vec!["amqps://u:p,q@[::1]:1", "amqps://u:p,q@[::2]"],
            ),
            ("amqp://a,,b", vec!["amqp://a", "amqp://", "amqp://b"]),
            ("a,b", vec!["a,b"]),
            ("", vec![""]),
        ] {
            assert_eq!(each_host(url), all, "{url}");
        }
    }
}
