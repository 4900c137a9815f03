//! The body of an event in rows of lists.

use std::sync::Arc;

use hookline_store::Excerpt;
use serde::{Serialize, Serializer};

use crate::routes::response_size::prefix;

/// The text is shared by all rows of one event.
#[derive(Debug)]
pub(crate) struct BodyText(Arc<str>);

impl BodyText {
    pub(crate) fn truncate(&mut self, bytes: usize) {
        self.0 = prefix(&self.0, bytes).into();
    }
}

impl From<Excerpt> for BodyText {
    fn from(excerpt: Excerpt) -> Self {
        Self(excerpt.text)
    }
}

impl Serialize for BodyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Whether the store read only the beginning of a body; none if it read no body.
pub(crate) fn is_cut(body: Option<&Excerpt>) -> Option<bool> {
    body.map(|body| !body.is_whole)
}
