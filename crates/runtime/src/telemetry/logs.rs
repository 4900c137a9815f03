use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::repeats::{Limited, Repeats};
use crate::settings::{LogFormat, LogSettings};

/// What says nothing of ours, or too much: lapin logs a returned message with its body. lapin and r2d2
/// also log each error that they return, and we log it again where it is handled, with what it means;
/// what they do not return, such as a panic of lapin's thread, is still theirs to say. The settings come
/// after and can say otherwise, by module: `lapin::io_loop=error`.
const QUIETER: &str = "actix_server=warn,opentelemetry=warn,opentelemetry_sdk=warn,\
    lapin::returned_messages=error,lapin::channel=off,lapin::consumer=off,lapin::heartbeat=off,\
    lapin::io_loop=off,r2d2=off";

pub(super) fn layer<S>(
    settings: &LogSettings,
    repeats: Repeats,
) -> Result<Box<dyn Layer<S> + Send + Sync>, ParseError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::try_new(format!("{QUIETER},{}", settings.level))?;
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
