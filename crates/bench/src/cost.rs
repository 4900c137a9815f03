//! CPU time and memory of processes, as Linux counts them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use hookline_testkit::managed_process::Memory;

/// The unit of times in `/proc/PID/stat` (`USER_HZ`), the same on every common Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds by process name. Processes with the same name are summed.
pub type Cpu = BTreeMap<String, f64>;

struct CpuTimes {
    parent: u32,
    own: u64,
    of_children: u64,
}

fn times_of(process: u32) -> anyhow::Result<CpuTimes> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The process name ends with `)` and may contain spaces.
    let (_, rest) = stat
        .rsplit_once(')')
        .context("no name in a process's times")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| -> anyhow::Result<u64> {
        Ok(fields
            .get(at)
            .context("a process with too few times")?
            .parse()?)
    };
    Ok(CpuTimes {
        parent: u32::try_from(number(1)?)?,
        own: number(11)? + number(12)?,
        of_children: number(13)? + number(14)?,
    })
}

/// The CPU seconds of a process and of its descendants, dead or alive.
pub fn cpu_of(process: u32) -> anyhow::Result<f64> {
    let root = times_of(process)?;
    let mut ticks = root.own + root.of_children;
    let all: BTreeMap<u32, CpuTimes> = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, times_of(id).ok()?)))
        .collect();
    for (id, times) in &all {
        let mut above = times.parent;
        while above != process
            && let Some(next) = all.get(&above)
        {
            above = next.parent;
        }
        if above == process && *id != process {
            ticks += times.own + times.of_children;
        }
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// The CPU seconds of this process.
pub fn cpu_of_this() -> anyhow::Result<f64> {
    cpu_of(std::process::id())
}

/// The peak memory of a process, in MiB.
pub fn peak_memory(process: u32) -> anyhow::Result<f64> {
    Ok(Memory::of(process)?.peak as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_includes_descendants() {
        let before = cpu_of_this().unwrap();
        let burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", burn]).status();
        assert!(status.unwrap().success());
        assert!(cpu_of_this().unwrap() > before);
        assert!(peak_memory(std::process::id()).unwrap() > 0.5);
    }
}
