//! The hookline command
