//! Telemetry of requests: a metric, a log line, and the headers of every response. A server error is logged here, once,
//! with the cause that the response leaves out.

use std::time::{Duration, Instant};

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use hookline_runtime::request_id::{RequestId, X_REQUEST_ID};
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};

use crate::error::ApiError;

/// The metric that the OpenTelemetry conventions define for HTTP servers.
#[derive(Debug, Clone)]
pub(crate) struct RequestDuration(Histogram<f64>);

impl Default for RequestDuration {
    fn default() -> Self {
        let histogram = global::meter("hookline.api")
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("Time from a request to the start of its response")
            .with_boundaries(vec![
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ])
            .build();
        Self(histogram)
    }
}

/// The labels of a request. The route, not the path: each id in a path would be a metric of its own.
struct Observed {
    id: RequestId,
    method: Method,
    route: Option<String>,
    started: Instant,
}

pub(crate) async fn observe(
    durations: RequestDuration,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let observed = Observed {
        id: RequestId::new(request.headers()),
        method: request.method().clone(),
        route: request.match_pattern(),
        started: Instant::now(),
    };
    let id = observed.id.clone();
    let mut result = id.scope(next.call(request)).await;
    let (status, failure) = match &mut result {
        Ok(response) => {
            response.headers_mut().insert(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            );
            if let Some(id) = observed.id.header() {
                response.headers_mut().insert(X_REQUEST_ID, id);
            }
            (response.status(), response.response().error())
        }
        Err(error) => (error.as_response_error().status_code(), Some(&*error)),
    };
    observed.record(&durations, status);
    if status.is_server_error() {
        observed.log_failure(status, failure);
    }
    result
}

impl Observed {
    fn record(&self, durations: &RequestDuration, status: StatusCode) {
        let duration = self.started.elapsed();
        tracing::debug!(
            request.id = self.id.as_str(),
            http.method = %self.method,
            http.route = self.route.as_deref().unwrap_or_default(),
            http.status = status.as_u16(),
            duration_ms = millis(duration),
            "answered request"
        );
        let mut labels = vec![
            KeyValue::new("http.request.method", method_label(&self.method)),
            KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        ];
        if let Some(route) = &self.route {
            labels.push(KeyValue::new("http.route", route.clone()));
        }
        durations.0.record(duration.as_secs_f64(), &labels);
    }

    fn log_failure(&self, status: StatusCode, failure: Option<&Error>) {
        let error = failure.and_then(Error::as_error::<ApiError>);
        if matches!(error, Some(ApiError::LoopDetected | ApiError::NotReady(_))) {
            return;
        }
        let cause = match error {
            Some(error) => error
                .cause()
                .map_or_else(|| error.to_string(), str::to_owned),
            None => failure.map(Error::to_string).unwrap_or_default(),
        };
        tracing::warn!(
            request.id = self.id.as_str(),
            http.method = %self.method,
            http.route = self.route.as_deref().unwrap_or_default(),
            http.status = status.as_u16(),
            duration_ms = millis(self.started.elapsed()),
            error = cause,
            "failed request"
        );
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A client can invent methods, and each would be a metric of its own.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse, web};
    use tracing::subscriber::set_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[actix_web::test]
    async fn a_log_line_has_the_request_id_of_the_response() {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let lines = lines.with_max_level(tracing::Level::DEBUG).with_ansi(false);
        let _lines = set_default(lines.finish());
        let fails =
            || async { Err::<HttpResponse, _>(ApiError::Unavailable("it is away".to_owned())) };
        let durations = RequestDuration::default();
        let middleware = move |asked, next| observe(durations.clone(), asked, next);
        let app = App::new().route("/", web::get().to(fails));
        let app = init_service(app.wrap(from_fn(middleware))).await;
        let asked = TestRequest::default().insert_header((X_REQUEST_ID, "req-7"));
        let answer = call_service(&app, asked.to_request()).await;
        assert_eq!(answer.headers().get(X_REQUEST_ID).unwrap(), "req-7");
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for message in ["answered request", "failed request"] {
            let line = log.lines().find(|line| line.contains(message)).unwrap();
            assert!(line.contains("request.id=\"req-7\""), "{line}");
        }
    }
}
