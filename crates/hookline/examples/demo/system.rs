//! The system: `hookline dev` with two organizations.

use anyhow::Context as _;
use rand::distr::{Alphanumeric, SampleString as _};

use crate::api::Api;
use crate::process::Process;

/// The organizations of the events in the file.
pub(crate) const ORGANIZATIONS: [&str; 2] = ["org_acme", "org_globex"];

/// Short waits between attempts keep the demo short.
pub(crate) const RETRY_SECONDS: [u64; 3] = [1, 1, 2];

/// The API with a key for each organization.
pub(crate) struct System {
    pub(crate) url: String,
    apis: Vec<(&'static str, Api)>,
}

impl System {
    /// Starts `hookline dev` in an empty folder and creates both organizations.
    pub(crate) async fn start() -> anyhow::Result<(Self, Process)> {
        let key = format!("hk_{}", Alphanumeric.sample_string(&mut rand::rng(), 32));
        let [first, others @ ..] = ORGANIZATIONS;
        let dev = [
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--api-key",
            &key,
            "--org",
            first,
        ];
        let schedule = format!("{RETRY_SECONDS:?}");
        let settings = [("HOOKLINE__RETRY__SCHEDULE_SECONDS", schedule.as_str())];
        let (url, process) = Process::start(&dev, &settings).await?;

        let mut apis = vec![(first, Api::new(&url, &key))];
        for other in others {
            process.cli.run(&["org", "create", other]).await?;
            let key = process.cli.create_key(&["--org", other]).await?;
            apis.push((other, Api::new(&url, &key)));
        }
        Ok((Self { url, apis }, process))
    }

    pub(crate) fn api(&self, organization: &str) -> anyhow::Result<&Api> {
        let found = self.apis.iter().find(|(known, _)| *known == organization);
        let (_, api) = found.with_context(|| format!("there is no {organization}"))?;
        Ok(api)
    }
}
