//! Authorization: an API key, its organizations and its scopes.

use serde::Serialize;

use crate::ids::{KeyId, OrganizationId};

/// A right of an API key.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = UnknownScope, parse_err_fn = unknown_scope)]
pub enum Scope {
    Read,
    /// Changes of subscriptions, and test deliveries.
    Write,
    Publish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of read, write, publish")]
pub struct UnknownScope;

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Publish];

    /// The name on the command line and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

fn unknown_scope(_name: &str) -> UnknownScope {
    UnknownScope
}

/// The rights of a valid API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub key: KeyId,
    /// The organization of a request that names none.
    pub default_organization: OrganizationId,
    /// Every organization that the key belongs to, the default one included.
    pub organizations: Vec<OrganizationId>,
    pub scopes: Vec<Scope>,
}

/// A request with a valid key that lacks the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The key does not belong to the organization, whether that exists or not.
    #[error("the API key does not belong to this organization")]
    Organization,
    #[error("the API key lacks the scope {0}")]
    Scope(Scope),
}

impl Access {
    /// The organization of a request that needs `scope` and names `organization`, or none.
    ///
    /// # Errors
    /// [`Forbidden`] when the key lacks the organization or the scope.
    pub fn enter(
        &self,
        organization: Option<&str>,
        scope: Scope,
    ) -> Result<&OrganizationId, Forbidden> {
        if !self.scopes.contains(&scope) {
            return Err(Forbidden::Scope(scope));
        }
        match organization {
            None => Ok(&self.default_organization),
            Some(name) => self
                .organizations
                .iter()
                .find(|known| known.as_str() == name)
                .ok_or(Forbidden::Organization),
        }
    }
}
