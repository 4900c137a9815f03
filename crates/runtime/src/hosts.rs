//! DNS rebinding protection. A page of another origin can resolve its own name to loopback and make a browser send
//! requests to this machine. Their `Host` header has that name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HOST};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, ResponseError};
use serde_json::{Value, json};

use crate::request_id::RequestId;

/// The values of `Host` that a listener answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hosts {
    /// Behind a proxy, the proxy checks the host.
    #[default]
    Any,
    /// 127.0.0.1, localhost, \[::1\] and the given listening address, with any port.
    Loopback(IpAddr),
}

/// A request for another host (RFC 9110, 15.5.20).
#[derive(Debug, thiserror::Error)]
#[error("the Host header must name 127.0.0.1, localhost or [::1]")]
pub struct Misdirected;

impl Misdirected {
    /// The body of the response (RFC 9457).
    pub fn problem(&self) -> Value {
        let mut problem = json!({
            "type": "urn:hookline:problem:misdirected",
            "title": "Misdirected Request",
            "status": self.status_code().as_u16(),
            "detail": self.to_string(),
        });
        if let Some(id) = RequestId::current() {
            problem["request_id"] = json!(id);
        }
        problem
    }
}

impl ResponseError for Misdirected {
    fn status_code(&self) -> StatusCode {
        StatusCode::MISDIRECTED_REQUEST
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code())
            .insert_header((CACHE_CONTROL, "no-store"))
            .content_type("application/problem+json")
            .body(self.problem().to_string())
    }
}

impl Hosts {
    /// Middleware that answers a request for another host with [`Misdirected`], on every path.
    pub async fn check(
        self,
        request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse, Error> {
        match self.allow(&request) {
            true => next.call(request).await,
            false => Ok(request.error_response(Misdirected)),
        }
    }

    pub fn allow(self, request: &ServiceRequest) -> bool {
        let Self::Loopback(listening) = self else {
            return true;
        };
        let mut names = request.headers().get_all(HOST);
        let in_target = request.uri().authority().map(|target| target.as_str());
        // Every browser sends a host, so a request without one comes from another client.
        names.all(|name| name.to_str().is_ok_and(|name| is_loopback(name, listening)))
            && in_target.is_none_or(|name| is_loopback(name, listening))
    }
}

fn is_loopback(host: &str, listening: IpAddr) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    let known = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        listening,
    ];
    let is_known = match name.parse::<IpAddr>() {
        Ok(address) => known.contains(&address),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    is_port && is_known
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn is_allowed(hosts: Hosts, names: &[&str]) -> bool {
        let request = names
            .iter()
            .fold(TestRequest::get().uri("/x"), |request, name| {
                request.append_header((HOST, *name))
            });
        hosts.allow(&request.to_srv_request())
    }

    #[test]
    fn only_requests_for_this_machine_are_answered() {
        let dev = Hosts::Loopback(Ipv4Addr::new(127, 0, 0, 2).into());
        for name in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]",
            "[::1]:65535",
            "127.0.0.2:8080",
        ] {
            assert!(is_allowed(dev, &[name]), "{name}");
        }
        for name in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.1.nip.io",
            "127.0.0.3",
            "u@localhost",
            "localhost:x",
            "localhost:",
            "[::1",
            "::1",
            "[::2]",
            "0.0.0.0",
            "10.0.0.1",
            "127.0.0.1, evil.example",
        ] {
            assert!(!is_allowed(dev, &[name]), "{name}");
            assert!(is_allowed(Hosts::Any, &[name]), "{name}");
        }
        assert!(!is_allowed(dev, &["localhost", "evil.example"]));
        let absolute = TestRequest::get().uri("http://evil.example/x");
        let absolute = absolute.insert_header((HOST, "localhost")).to_srv_request();
        assert!(!dev.allow(&absolute));
    }
}
