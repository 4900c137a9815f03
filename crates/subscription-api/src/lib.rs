//! The REST API of Hookline
