//! Parts of a request as handlers take them: the caller, ids in the path, conditions, the query and the body.

pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod conditions;
pub(crate) mod filter;
pub(crate) mod idempotency;
pub(crate) mod path_id;
pub(crate) mod query;
mod strict_json;
