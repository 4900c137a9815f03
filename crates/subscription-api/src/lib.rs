//! The REST API: customers manage subscriptions and read logs; publishers without a broker client publish events.
//!
//! A request passes through these layers, from the outside in:
//!
//! 1. `hookline_runtime::http`: time limits and the number of connections;
//! 2. `middleware::graceful_shutdown`: counts requests, so that a stop waits for them;
//! 3. `middleware::request_telemetry`: the metric, the log line, the request id and the headers of every response;
//! 4. `middleware::response_memory`: the memory limit of responses that wait to be read, per key and in total;
//! 5. `hookline_runtime::hosts`: 421 for another host, where the API listens on loopback;
//! 6. `middleware::cors`: the pages of other origins that may call the API;
//! 7. `middleware::loop_detection`: 508 for a request that Hookline itself sent;
//! 8. `middleware::deadline`: a response in time although the store or the broker hangs, and after a panic;
//! 9. `middleware::auth`: the key, the organization, the scope and the limits of the key. It runs before the body is
//!    read and before the id in the path is parsed;
//! 10. a handler of `routes`. Only handlers call the store and the publisher, except that `auth` looks keys up.
//!
//! Modules import in one direction: `config` and `error`, `limits` and `live`, `state`, `extract`, `middleware`, `routes`, `openapi`,
//! `server`. `schemas` has the documented forms of requests. Only `error` chooses a status. Only `extract::caller`
//! gives an organization to a handler, so a handler cannot forget authentication.

mod config;
mod error;
mod extract;
mod limits;
mod live;
mod middleware;
mod openapi;
mod routes;
mod schemas;
mod server;
mod state;
#[cfg(test)]
mod tests;

pub use config::{ApiConfig, CorsOrigins};
pub use limits::trusted_proxies::TrustedProxies;
pub use server::run;
pub use state::Api;
