//! The `hookline` command on a deployment.

use std::path::Path;

use anyhow::Context as _;

use crate::managed_process::hookline;

/// Runs commands with the settings of a deployment.
pub struct HooklineCli {
    variables: Vec<(String, String)>,
    location: Vec<String>,
}

impl HooklineCli {
    /// For a deployment with these environment variables, and with this data folder in standalone mode.
    pub fn new(variables: Vec<(String, String)>, data: Option<&Path>) -> anyhow::Result<Self> {
        let location = match data {
            Some(data) => {
                let data = data.to_str().context("a folder that is UTF-8")?;
                vec!["--data-dir".to_owned(), data.to_owned()]
            }
            None => Vec::new(),
        };
        Ok(Self {
            variables,
            location,
        })
    }

    /// The settings of the deployment.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The arguments that name the data folder; none in a distributed deployment.
    pub fn location(&self) -> &[String] {
        &self.location
    }

    /// Runs a command and returns its output.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run_with(args, &[]).await
    }

    /// Runs a command with additional variables.
    pub async fn run_with(&self, args: &[&str], extra: &[(&str, &str)]) -> anyhow::Result<String> {
        let location: Vec<&str> = self.location.iter().map(String::as_str).collect();
        let mut variables = self.variables.clone();
        variables.extend(owned(extra));
        hookline(&[args, &location].concat(), &variables).await
    }

    /// Creates a key with these arguments of `hookline key create`.
    pub async fn create_key(&self, args: &[&str]) -> anyhow::Result<String> {
        let printed = self.run(&[&["key", "create"], args].concat()).await?;
        let key = printed.lines().last().context("no key was printed")?;
        Ok(key.to_owned())
    }
}

/// Environment variables as a process takes them.
pub fn owned(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let variables = variables.iter();
    variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}
