//! Connections to the broker: how one is opened, watched and replaced.

pub(crate) mod alarm;
pub(crate) mod broker_url;
pub(crate) mod dial;
pub(crate) mod opening_guard;
pub(crate) mod refusal;
pub(crate) mod session;
pub(crate) mod supervisor;
