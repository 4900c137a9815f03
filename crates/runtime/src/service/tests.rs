//! These tests start their own executable as a service, which runs the single ignored test below.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command, Stdio, exit};

use super::*;

const PROBE: &str = "service::tests::a_service_for_the_other_tests";

#[test]
#[ignore = "the other tests run it as a process of its own"]
fn a_service_for_the_other_tests() {
    let args = ServiceArgs {
        print_default_config: env::var_os("PRINT").is_some(),
        ..ServiceArgs::default()
    };
    let status = run_with("probe", &args, |context| async move {
        match env::var("WORK").as_deref() {
            Ok("fail") => anyhow::bail!(io::Error::other("disk\nfull")),
            Ok("wait for a peer") => {
                let connect = async || Err::<(), _>("connection refused");
                context.wait_for("PostgreSQL", connect).await
            }
            Ok("never stop") => std::future::pending().await,
            Ok("need a store") => context
                .settings
                .store
                .required_url()
                .map(drop)
                .map_err(Into::into),
            _ => {
                context.shutdown.draining.cancelled().await;
                Ok(())
            }
        }
    });
    exit(status.into());
}

struct Probe {
    process: Child,
    log: BufReader<ChildStderr>,
}

impl Probe {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", PROBE, "--ignored", "--nocapture"])
            .env("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        Self { process, log }
    }

    /// Reads its log up to a line that has `words`.
    fn has_logged(mut self, words: &str) -> Self {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let length = self.log.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "it ended without: {words}");
        }
        self
    }

    fn signal(self, signal: &str) -> Self {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
        self
    }

    /// Its exit status, and what is left of standard output and error.
    fn end(mut self) -> (i32, String, String) {
        let mut output = String::new();
        let mut stdout = self.process.stdout.take().unwrap();
        stdout.read_to_string(&mut output).unwrap();
        let mut errors = String::new();
        self.log.read_to_string(&mut errors).unwrap();
        let status = self.process.wait().unwrap();
        (status.code().unwrap(), output, errors)
    }
}

#[test]
fn a_failure_is_one_line_and_status_1() {
    let (status, _, errors) = Probe::start(&[("WORK", "fail")]).end();
    assert_eq!(status, 1);
    assert_eq!(errors.lines().last(), Some("probe: disk full"), "{errors}");
}

#[test]
fn a_bad_setting_is_one_line_and_status_2() {
    let (status, _, errors) = Probe::start(&[("HOOKLINE__API__WORKERS", "0")]).end();
    assert_eq!(status, 2);
    insta::assert_snapshot!(errors, @"probe: setting api.workers = 0 (from HOOKLINE__API__WORKERS) is not allowed: it must be from 1 to 256");
    let (status, _, errors) = Probe::start(&[("WORK", "need a store")]).end();
    assert_eq!(status, 2);
    let line = errors.lines().last().unwrap();
    assert!(
        line.starts_with("probe: setting store.url is not set: "),
        "{line}"
    );
}

#[test]
fn a_failure_is_json_where_the_log_is() {
    for (variables, status, words) in [
        (("WORK", "fail"), 1, "probe: disk full"),
        (
            ("HOOKLINE__API__WORKERS", "0"),
            2,
            "probe: setting api.workers = 0",
        ),
    ] {
        let json = ("HOOKLINE__LOG__FORMAT", "json");
        let (ended, _, errors) = Probe::start(&[json, variables]).end();
        assert_eq!(ended, status);
        let last: serde_json::Value = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "ERROR");
        assert!(
            last["message"].as_str().unwrap().starts_with(words),
            "{last}"
        );
        assert!(last["timestamp"].as_str().unwrap().ends_with('Z'), "{last}");
    }
}

#[test]
fn suspicious_settings_cause_a_warning_at_the_start() {
    let variables = [
        ("HOOKLINE_STORE_URL", "postgres://u:hush@h/d"),
        ("HOOKLINE__STOP__GRACE_SECONDS", "10"),
    ];
    let probe = Probe::start(&variables)
        .has_logged("HOOKLINE_STORE_URL is not read: the setting's name is HOOKLINE__STORE__URL")
        .has_logged("stop.grace_seconds = 10 leaves a stop 8 s")
        .has_logged("serving health and metrics");
    let (status, _, errors) = probe.signal("-TERM").end();
    assert_eq!(status, 0, "{errors}");
}

#[test]
fn a_signal_stops_the_service_with_status_0() {
    for signal in ["-TERM", "-INT"] {
        let probe = Probe::start(&[]).has_logged("serving health and metrics");
        let (status, _, errors) = probe.signal(signal).end();
        assert_eq!(status, 0, "{errors}");
    }
}

#[test]
fn the_second_signal_ends_the_process_at_once() {
    for (signal, expected) in [("-TERM", 143), ("-INT", 130)] {
        let (status, _, _) = Probe::start(&[("WORK", "never stop")])
            .has_logged("serving health and metrics")
            .signal("-TERM")
            .has_logged("stopping")
            .signal(signal)
            .end();
        assert_eq!(status, expected);
    }
}

#[test]
fn a_service_that_waits_for_its_database_can_be_stopped() {
    let (status, _, errors) = Probe::start(&[("WORK", "wait for a peer")])
        .has_logged("cannot connect yet")
        .signal("-TERM")
        .end();
    assert_eq!(status, 0);
    let last = errors.lines().last().unwrap();
    assert!(
        last.ends_with("stopped while waiting for PostgreSQL"),
        "{errors}"
    );
}

#[test]
fn a_service_that_does_not_finish_is_ended_within_its_grace() {
    let probe = Probe::start(&[
        ("WORK", "never stop"),
        ("HOOKLINE__STOP__GRACE_SECONDS", "1"),
    ])
    .has_logged("serving health and metrics");
    let asked = std::time::Instant::now();
    let (status, _, errors) = probe.signal("-TERM").end();
    assert_eq!(status, 0, "{errors}");
    assert!(errors.contains("could not stop in time"), "{errors}");
    assert!(asked.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_default_file_is_printed_whole() {
    let (status, output, _) = Probe::start(&[("PRINT", "1")]).end();
    assert_eq!(status, 0);
    assert!(output.contains(Settings::default_file()));
}
