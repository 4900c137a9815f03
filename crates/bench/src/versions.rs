//! The machine and the versions with which figures are measured. Figures without them cannot be compared.

use anyhow::Context as _;
use tokio::process::Command;

/// The machine, the servers and Hookline, a line each.
pub async fn all() -> anyhow::Result<Vec<String>> {
    let mut lines = vec![machine()?];
    lines.push(format!(
        "Hookline {} ({})",
        env!("CARGO_PKG_VERSION"),
        output_of("git", &["describe", "--always", "--dirty"]).await
    ));
    if let Ok(postgres) = std::env::var("HOOKLINE_TEST_POSTGRES") {
        let version = output_of("psql", &[&postgres, "-XAtqc", "SHOW server_version"]).await;
        let commit = output_of("psql", &[&postgres, "-XAtqc", "SHOW synchronous_commit"]).await;
        lines.push(format!("PostgreSQL {version}, synchronous_commit={commit}"));
    }
    if let Ok(ctl) = std::env::var("HOOKLINE_TEST_RABBITMQCTL") {
        lines.push(format!(
            "RabbitMQ {}, quorum queues",
            output_of(&ctl, &["version"]).await
        ));
    }
    Ok(lines)
}

fn machine() -> anyhow::Result<String> {
    let read =
        |path| std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"));
    let (processors, memory, kernel) = (
        read("/proc/cpuinfo")?,
        read("/proc/meminfo")?,
        read("/proc/sys/kernel/osrelease")?,
    );
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model =
        value(&processors, "model name").unwrap_or_else(|| "processor of unknown make".to_owned());
    let kib: u64 = value(&memory, "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_default();
    Ok(format!(
        "{} cores ({model}), {} GiB, Linux {}",
        std::thread::available_parallelism()?,
        kib / (1024 * 1024),
        kernel.trim()
    ))
}

/// The output of a program, or a question mark if it does not run.
async fn output_of(program: &str, args: &[&str]) -> String {
    match Command::new(program).args(args).output().await {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "?".to_owned(),
    }
}
