//! The answers of the three receivers.

use actix_web::http::StatusCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Accepts every request.
    Healthy,
    /// Fails [`FAILURES`] times for each delivery and then accepts it.
    Flaky,
    /// Answers 410 Gone.
    Leaving,
}

pub(crate) const FAILURES: u32 = 2;

impl Behaviour {
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::Flaky, Self::Leaving];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Flaky => "flaky",
            Self::Leaving => "leaving",
        }
    }

    /// The status for request number `request` of a delivery, from 1.
    pub(crate) fn answer(self, request: u32) -> StatusCode {
        match self {
            Self::Flaky if request <= FAILURES => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Healthy | Self::Flaky => StatusCode::OK,
            Self::Leaving => StatusCode::GONE,
        }
    }
}
