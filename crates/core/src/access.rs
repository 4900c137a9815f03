//! Who may do what: an API key, its organizations and its scopes.

use std::fmt;

use serde::Serialize;

use crate::ids::{KeyId, OrganizationId};

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See subscriptions, deliveries and logs.
    Read,
    /// Change subscriptions and ask for tests.
    Write,
    /// Publish events.
    Publish,
}

/// A text that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of read, write, publish")]
pub struct UnknownScope;

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Publish];

    /// The name on the command line and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Publish => "publish",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == name)
            .ok_or(UnknownScope)
    }
}

/// What a valid key lets its bearer do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The key.
    pub key: KeyId,
    /// The organization of a request that names none.
    pub default_organization: OrganizationId,
    /// Every organization that the key belongs to, the default one included.
    pub organizations: Vec<OrganizationId>,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
}

/// Why a request is refused although its key is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The key does not belong to the organization, whether that exists or not.
    #[error("the API key does not belong to this organization")]
    Organization,
    /// The key lacks this scope.
    #[error("the API key lacks the scope {0}")]
    Scope(Scope),
}

impl Access {
    /// The organization of a request that needs `scope` and names `organization`, or none.
    ///
    /// # Errors
    /// [`Forbidden`] when the key does not reach that far.
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
