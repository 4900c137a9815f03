//! Wall clocks of dispatchers and of PostgreSQL that are set an hour ahead or back.

use super::System;
use crate::chaos::fault::{ClockShift, Fault, Target};

const HOUR: i64 = 60 * 60;

impl System {
    pub(super) async fn shift_clock(
        &mut self,
        shift: ClockShift,
        targets: &[Target],
    ) -> anyhow::Result<()> {
        let seconds = match shift {
            ClockShift::Ahead => HOUR,
            ClockShift::Back => -HOUR,
        };
        let library = self.servers()?.faketime();
        for &target in targets {
            match target {
                Target::Postgres => {
                    let ahead = self.ahead;
                    if let Some(clock) = self.servers()?.postgres_clock() {
                        clock.set(ahead + seconds)?;
                    }
                }
                _ => {
                    let process = self.process(target)?;
                    process.inject(Fault::Clock(shift)).await?;
                    process.clock.set(seconds)?;
                    let library = library.as_deref();
                    let variables = library.map(|library| process.clock.variables(library));
                    process.start_with(variables.as_ref().map_or(&[], |some| &some[..]))?;
                }
            }
        }
        Ok(())
    }

    /// Sets a clock right again, except a database's clock that was set ahead. If that clock went back,
    /// deliveries with a due time from the wrong clock would come an hour late.
    pub(super) fn restore_clock(
        &mut self,
        shift: ClockShift,
        targets: &[Target],
    ) -> anyhow::Result<()> {
        for &target in targets {
            match target {
                Target::Postgres => {
                    if shift == ClockShift::Ahead {
                        self.ahead += HOUR;
                    }
                    let ahead = self.ahead;
                    if let Some(clock) = self.servers()?.postgres_clock() {
                        clock.set(ahead)?;
                    }
                }
                _ => self.process(target)?.clock.set(0)?,
            }
        }
        Ok(())
    }
}
