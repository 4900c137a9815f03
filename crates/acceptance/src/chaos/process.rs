//! One of our processes in a run: it starts, is hit by a fault, and reports its end.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::fault::{Fault, Target};
use super::links::{FaultPoints, WallClock};
use hookline_testkit::managed_process::{ManagedProcess, readiness};
use hookline_testkit::waiting::until;

/// A process that is hit and comes back.
pub(super) struct ChaosProcess {
    pub(super) target: Target,
    pub(super) program: &'static str,
    pub(super) args: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) logs: PathBuf,
    pub(super) admin: u16,
    pub(super) fault_points: FaultPoints,
    /// Its wall clock, when it is started with one.
    pub(super) clock: WallClock,
    pub(super) process: Option<ManagedProcess>,
}

impl ChaosProcess {
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        self.start_with(&[])
    }

    /// Starts the process with additional variables.
    pub(super) fn start_with(
        &mut self,
        additional_variables: &[(String, String)],
    ) -> anyhow::Result<()> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut variables = self.variables.clone();
        variables.push(self.fault_points.variable());
        variables.extend_from_slice(additional_variables);
        let process = ManagedProcess::start(self.program, &args, &variables, &self.logs)?;
        self.process = Some(process);
        Ok(())
    }

    pub(super) fn process(&mut self) -> anyhow::Result<&mut ManagedProcess> {
        self.process
            .as_mut()
            .with_context(|| format!("{} does not run", self.target))
    }

    pub(super) fn ensure_running(&mut self) -> anyhow::Result<()> {
        let target = self.target;
        let process = self.process()?;
        ensure!(
            process.is_running(),
            "{target} ended by itself; its log ends with\n{}",
            end_of(&process.output())
        );
        Ok(())
    }

    /// Whether it was started and has ended by itself since.
    pub(super) fn has_ended(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| !process.is_running())
    }

    pub(super) async fn readiness(&self) -> u16 {
        readiness(self.admin).await
    }

    pub(super) async fn inject(&mut self, fault: Fault) -> anyhow::Result<()> {
        let (target, admin) = (self.target, self.admin);
        let process = self.process()?;
        match fault {
            Fault::Kill | Fault::FillDisk | Fault::Clock(_) => process.kill().await?,
            Fault::Freeze | Fault::LongFreeze => return process.signal("STOP").await,
            Fault::Stop => {
                // A process that does not handle signals yet ends at once and badly.
                until(&format!("an answer of {target}"), async || {
                    Ok((readiness(admin).await != 0).then_some(()))
                })
                .await?;
                process.signal("TERM").await?;
                let status = process.wait().await?;
                ensure!(
                    status.success(),
                    "{target} ended with {status}: {}",
                    end_of(&process.output())
                );
            }
            _ => bail!("{fault} {target} is not done to a process"),
        }
        self.process = None;
        Ok(())
    }
}

fn end_of(log: &str) -> &str {
    const LINES: usize = 15;
    let begin = log.rmatch_indices('\n').nth(LINES);
    begin.map_or(log, |(at, _)| &log[at + 1..])
}
