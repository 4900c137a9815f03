use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, ParseError, Targets};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::repeats::{Limited, RepeatLimiter};
use crate::settings::{LogFormat, LogSettings};

/// Libraries that log too much. lapin and r2d2 log each error that they return, which is logged again with its meaning
/// where it is handled. Errors that they do not return, such as a panic of lapin's thread, are still logged. The settings
/// override it by module: `lapin::io_loop=error`.
const QUIETER: &str = "actix_server=warn,opentelemetry=warn,opentelemetry_sdk=warn,\
    lapin::channel=off,lapin::consumer=off,lapin::heartbeat=off,lapin::io_loop=off,r2d2=off";

/// Our crates. Their log lines show no secrets.
const OURS: [&str; 4] = ["hookline", "subscription_api", "ingest", "dispatcher"];

/// A limit that no setting can change. Below `info`, libraries log the bytes that they send and receive: lapin logs a
/// password and every body, as decimal numbers. lapin also logs a returned message with its body at any level.
fn cap() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(OURS.map(|name| (name, LevelFilter::TRACE)))
        .with_target("lapin::returned_messages", LevelFilter::OFF)
}

pub(super) fn layer<S>(
    settings: &LogSettings,
    repeats: RepeatLimiter,
) -> Result<Box<dyn Layer<S> + Send + Sync>, ParseError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::try_new(format!("{QUIETER},{}", settings.level))?.and(cap());
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    Ok(match settings.format {
        LogFormat::Text => lines
            .map_event_format(|format| Limited::new(format, repeats))
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .map_event_format(|format| Limited::new(format, repeats))
            .with_filter(filter)
            .boxed(),
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_library_logs_nothing_below_info_at_any_level() {
        let cap = cap();
        for (target, level, is_logged) in [
            ("hookline_dispatcher::worker", Level::TRACE, true),
            ("subscription_api", Level::TRACE, true),
            ("lapin::io_loop", Level::TRACE, false),
            ("lapin::io_loop", Level::ERROR, true),
            ("lapin::returned_messages", Level::ERROR, false),
            ("amq_protocol::frame", Level::DEBUG, false),
            ("rustls::client::hs", Level::DEBUG, false),
            ("hyper::proto::h1::io", Level::TRACE, false),
            ("an_unknown_library", Level::DEBUG, false),
            ("an_unknown_library", Level::INFO, true),
        ] {
            assert_eq!(
                cap.would_enable(target, &level),
                is_logged,
                "{target} {level}"
            );
        }
    }
}
