//! Prepares, begins and ends faults.

use std::time::Duration;

use anyhow::Context as _;
use hookline_testkit::database_faults::DatabaseFault;
use hookline_testkit::proxy::Link;
use hookline_testkit::waiting::until;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{System, WAKE_UPS, server_of};
use crate::chaos::abuse;
use crate::chaos::fault::{BacklogPoint, CHURN, Fault, Injection, Outage, Target};
use crate::chaos::ledger::Ledger;
use crate::chaos::servers::DependencyServer;

/// The fault point at which the scheduler of a dispatcher hangs.
const SCHEDULER: &str = "dispatcher::turn::scheduler";

/// Within this time a process has read its file of fault points, twice.
const DISARMED_WITHIN: Duration = Duration::from_millis(300);

impl System {
    /// Prepares a fault before it begins.
    pub(crate) async fn prepare(
        &mut self,
        injection: &Injection,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        self.ensure_running()?;
        match injection.fault {
            // A service that starts while a right is missing ends with an error. The fault is about services that run.
            Fault::Database(DatabaseFault::Revoke) => self.wait_ready().await,
            Fault::Outage(_) => {
                self.wait_ready().await?;
                self.owners = Some(self.even_owners().await?);
                Ok(())
            }
            Fault::FailOver => {
                self.wait_ready().await?;
                self.copied = Some(self.know_events(ledger).await?);
                Ok(())
            }
            // A cluster without a node bears no second loss.
            _ if matches!(injection.targets[..], [Target::Node(_)]) => {
                self.servers()?.wait_for_members().await
            }
            _ => Ok(()),
        }
    }

    /// Begins a fault.
    pub(crate) async fn inject(&mut self, injection: &Injection) -> anyhow::Result<()> {
        let Injection { fault, targets, .. } = injection;
        match *fault {
            Fault::FillDisk => self.fill(targets).await,
            Fault::Database(fault) => {
                let database = self.servers()?.database()?;
                self.ongoing = Some(database.begin_fault(fault).await?);
                Ok(())
            }
            Fault::Abuse(abuse) => {
                self.abusers = abuse::begin(abuse, &self.victim);
                Ok(())
            }
            Fault::DropWakeUps(every) => self.each(|process| {
                process
                    .fault_points
                    .arm(WAKE_UPS, format!("return({every})"))
            }),
            Fault::Churn => self.churn().await,
            Fault::Outage(Outage::Killed) => {
                self.inject_into_server(Fault::Kill, DependencyServer::Postgres)
                    .await
            }
            Fault::Outage(Outage::Frozen) => {
                self.inject_into_server(Fault::Freeze, DependencyServer::Postgres)
                    .await
            }
            Fault::Cut(dependency) => {
                self.each_link(targets, |links| links.set(dependency, Link::Cut))
            }
            Fault::Silence(dependency) => {
                self.each_link(targets, |links| links.set(dependency, Link::Silent))
            }
            Fault::Clock(shift) => self.shift_clock(shift, targets).await,
            Fault::Repartition(count) => {
                let count = count.to_string();
                self.hookline(&["partitions", "set", &count]).await?;
                Ok(())
            }
            Fault::HangScheduler => {
                let actions = format!("1*sleep({})", injection.away.as_millis());
                self.each_of(targets, |process| {
                    process.fault_points.arm(SCHEDULER, actions.clone())
                })
            }
            Fault::FailOver => {
                let tables = self.tables();
                self.servers()?.copy_postgres(tables.as_deref()).await?;
                // Commits from now on are lost.
                tokio::time::sleep(injection.away).await;
                Ok(())
            }
            Fault::CrashAt(point) => self.crash_at(point, targets).await,
            Fault::Kill | Fault::Freeze | Fault::LongFreeze | Fault::Stop => {
                for &target in targets {
                    let what = || format!("{fault} {target}");
                    match server_of(target) {
                        Some(server) => self
                            .inject_into_server(*fault, server)
                            .await
                            .with_context(what)?,
                        None => self
                            .process(target)?
                            .inject(*fault)
                            .await
                            .with_context(what)?,
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends a fault.
    pub(crate) async fn restore(&mut self, injection: &Injection) -> anyhow::Result<()> {
        let Injection { fault, targets, .. } = injection;
        match *fault {
            Fault::FillDisk => self.free(targets).await,
            Fault::Database(_) => {
                if let Some(ongoing) = self.ongoing.take() {
                    ongoing.end().await?;
                }
                self.wait_ready().await
            }
            Fault::Abuse(_) => {
                self.abusers = JoinSet::new();
                self.wait_ready().await
            }
            Fault::DropWakeUps(_) => {
                let always = self.plan.drop_wake_ups;
                self.each(|process| match always {
                    Some(every) => process
                        .fault_points
                        .arm(WAKE_UPS, format!("return({every})")),
                    None => process.fault_points.disarm(WAKE_UPS),
                })
            }
            Fault::Churn | Fault::Repartition(_) => Ok(()),
            Fault::Outage(Outage::Killed) => self.servers()?.start_again().await,
            Fault::Outage(Outage::Frozen) => {
                self.servers()?
                    .signal(DependencyServer::Postgres, "CONT")
                    .await
            }
            Fault::Cut(dependency) | Fault::Silence(dependency) => {
                self.each_link(targets, |links| links.set(dependency, Link::Up))
            }
            Fault::Clock(shift) => self.restore_clock(shift, targets),
            Fault::HangScheduler => {
                self.each_of(targets, |process| process.fault_points.disarm(SCHEDULER))
            }
            Fault::FailOver => self.fail_over().await,
            Fault::CrashAt(point) => self.restart_after(point, targets).await,
            Fault::Freeze | Fault::LongFreeze => {
                // Services first: they wait for their servers.
                for &target in targets
                    .iter()
                    .filter(|target| server_of(**target).is_none())
                {
                    self.process(target)?.process()?.signal("CONT").await?;
                }
                for server in targets.iter().filter_map(|&target| server_of(target)) {
                    self.servers()?.signal(server, "CONT").await?;
                }
                Ok(())
            }
            Fault::Kill | Fault::Stop => {
                for &target in targets
                    .iter()
                    .filter(|target| server_of(**target).is_none())
                {
                    self.process(target)?.start()?;
                }
                match targets.iter().any(|&target| server_of(target).is_some()) {
                    true => self.servers()?.start_again().await,
                    false => Ok(()),
                }
            }
        }
    }

    /// Waits until receivers that refuse everything have made backlog, and a process has ended at this point.
    pub(super) async fn crash_at(
        &mut self,
        point: BacklogPoint,
        targets: &[Target],
    ) -> anyhow::Result<()> {
        self.refusal.set(true);
        if point == BacklogPoint::Read {
            until("backlog", async || {
                Ok((self.count_backlog().await? > 0).then_some(()))
            })
            .await?;
        }
        self.each_of(targets, |process| {
            process.fault_points.arm(point.name(), "return".to_owned())
        })?;
        if point == BacklogPoint::Read {
            // It is read when its receivers take it.
            self.refusal.set(false);
        }
        let name = point.name();
        until(&format!("the end of a process at {name}"), async || {
            let mut processes = self.processes.iter_mut();
            let ended =
                processes.any(|process| targets.contains(&process.target) && process.has_ended());
            Ok(ended.then_some(()))
        })
        .await
    }

    pub(super) async fn restart_after(
        &mut self,
        point: BacklogPoint,
        targets: &[Target],
    ) -> anyhow::Result<()> {
        self.refusal.set(false);
        self.each_of(targets, |process| process.fault_points.disarm(point.name()))?;
        // A process that has not read this yet may still end.
        tokio::time::sleep(DISARMED_WITHIN).await;
        self.each_of(targets, |process| match process.has_ended() {
            true => process.start(),
            false => Ok(()),
        })
    }

    /// How much backlog all partitions have.
    pub(super) async fn count_backlog(&self) -> anyhow::Result<u64> {
        let printed: Value =
            serde_json::from_str(&self.hookline(&["partitions", "--json"]).await?)?;
        let partitions = printed["partitions"].as_array().context("no partitions")?;
        Ok(partitions
            .iter()
            .filter_map(|one| one["backlog"].as_u64())
            .sum())
    }

    /// Further dispatchers beside those that stay.
    pub(super) async fn churn(&mut self) -> anyhow::Result<()> {
        let mut ended = 0;
        for step in 0..CHURN.at_once + CHURN.replaced {
            if step >= CHURN.at_once {
                self.end_oldest(ended).await?;
                ended += 1;
            }
            self.joined += 1;
            let mut process =
                self.new_process(Target::Dispatcher(self.plan.dispatchers + self.joined))?;
            process.start()?;
            self.additional_dispatchers.push(process);
            tokio::time::sleep(CHURN.every).await;
            self.ensure_running()?;
        }
        while !self.additional_dispatchers.is_empty() {
            self.end_oldest(ended).await?;
            ended += 1;
        }
        Ok(())
    }

    pub(super) async fn end_oldest(&mut self, ended: usize) -> anyhow::Result<()> {
        let fault = match ended % 2 {
            0 => Fault::Kill,
            _ => Fault::Stop,
        };
        self.additional_dispatchers.remove(0).inject(fault).await
    }

    pub(super) async fn inject_into_server(
        &mut self,
        fault: Fault,
        server: DependencyServer,
    ) -> anyhow::Result<()> {
        let servers = self.servers()?;
        match fault {
            Fault::Freeze | Fault::LongFreeze => servers.signal(server, "STOP").await,
            Fault::Stop => servers.stop(server).await,
            _ => {
                servers.signal(server, "KILL").await?;
                servers.wait_for_end(server).await
            }
        }
    }
}
