//! Users of RabbitMQ with few rights.

use anyhow::Context as _;

use crate::dependencies::{TestDependencies, evaluate};

/// The password of each user at its beginning.
const PASSWORD: &str = "hush";

/// A user of a deployment's vhost.
pub struct BrokerUser {
    name: String,
    vhost: String,
    url: String,
}

/// The rights of a broker user: three patterns of names.
#[derive(Debug, Clone, Copy)]
pub struct Rights<'a> {
    /// The right to declare.
    pub configure: &'a str,
    /// The right to publish and to bind.
    pub write: &'a str,
    /// The right to consume and to bind.
    pub read: &'a str,
}

impl Rights<'_> {
    /// A vhost that a user may enter and do nothing in.
    pub const NONE: Rights<'static> = Rights {
        configure: "^$",
        write: "^$",
        read: "^$",
    };
}

impl TestDependencies {
    /// A new user with these rights in this deployment's vhost.
    pub async fn broker_user(&self, rights: Rights<'_>) -> anyhow::Result<BrokerUser> {
        let name = format!("u{}", uuid::Uuid::new_v4().simple());
        evaluate(&format!(
            "rabbit_auth_backend_internal:add_user(<<\"{name}\">>, <<\"{PASSWORD}\">>, <<\"test\">>)."
        ))
        .await?;
        let mut url: reqwest::Url = self.amqp.parse()?;
        url.set_username(&name).ok().context("a URL with a user")?;
        url.set_password(Some(PASSWORD))
            .ok()
            .context("a URL with a password")?;
        let user = BrokerUser {
            name,
            vhost: url.path().trim_start_matches('/').to_owned(),
            url: url.into(),
        };
        user.set_rights(rights).await?;
        Ok(user)
    }
}

impl BrokerUser {
    /// The broker's URL with this user.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Gives it these rights and no others.
    pub async fn set_rights(&self, rights: Rights<'_>) -> anyhow::Result<()> {
        let Self { name, vhost, .. } = self;
        let [configure, write, read] =
            [rights.configure, rights.write, rights.read].map(|one| one.replace('\\', "\\\\"));
        evaluate(&format!(
            "rabbit_auth_backend_internal:set_permissions(<<\"{name}\">>, <<\"{vhost}\">>, <<\"{configure}\">>, \
             <<\"{write}\">>, <<\"{read}\">>, <<\"test\">>)."
        ))
        .await
    }

    /// Changes the password, to the first one where none is given, and closes the connections.
    pub async fn change_password(&self, password: Option<&str>) -> anyhow::Result<()> {
        let (name, password) = (&self.name, password.unwrap_or(PASSWORD));
        evaluate(&format!(
            "rabbit_auth_backend_internal:change_password(<<\"{name}\">>, <<\"{password}\">>, <<\"test\">>), \
             [rabbit_networking:close_connection(Pid, \"test\") || [{{pid, Pid}}, {{user, U}}] <- \
             rabbit_networking:connection_info_all([pid, user]), U =:= <<\"{name}\">>]."
        ))
        .await
    }

    /// Removes it.
    pub async fn remove(self) -> anyhow::Result<()> {
        let name = self.name;
        evaluate(&format!(
            "rabbit_auth_backend_internal:delete_user(<<\"{name}\">>, <<\"test\">>)."
        ))
        .await
    }
}
