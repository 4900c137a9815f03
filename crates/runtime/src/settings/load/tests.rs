use std::io::Write as _;

use insta::assert_snapshot;
use proptest::test_runner::Config as ProptestConfig;
use proptest::{prop_assert, prop_assert_eq, proptest};
use tempfile::NamedTempFile;
use url::Url;

use hookline_core::retry::RetrySchedule;
use hookline_core::target::IpNet;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let owned = |(name, value): &(&str, &str)| (name.into(), value.into());
    variables.iter().map(owned).collect()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::load_with(None, environment(variables))
}

fn network(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn from_file(text: &str) -> Result<Settings, SettingsError> {
    Settings::load_with(Some(file(text).path()), [])
}

/// The error of a bad variable: one line.
fn refused(variable: &str, value: &str) -> String {
    let line = from_environment(&[(variable, value)])
        .unwrap_err()
        .to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

/// The error of a bad file: one line.
fn refused_file(text: &str) -> String {
    let file = file(text);
    let error = Settings::load_with(Some(file.path()), []).unwrap_err();
    let line = format!("{:#}", anyhow::Error::from(error));
    assert!(!line.contains('\n'), "{line}");
    line.replace(&file.path().display().to_string(), "FILE")
}

#[test]
fn the_default_file_is_complete_and_allowed() {
    let settings = from_environment(&[]).unwrap();
    assert_eq!(settings.dispatcher.slots, 256);
    assert_eq!(settings.dispatcher.deadline.as_secs(), 15);
    assert_eq!(settings.store.wait.as_millis(), 2_000);
    assert_eq!(settings.retry.schedule, Default::default());
    assert_eq!(settings.targets.rules(), Default::default());
    assert_eq!(settings.log.format, LogFormat::Text);
    assert!(!settings.store.url.is_set());
}

#[test]
fn the_environment_overrides_the_file_and_the_file_the_defaults() {
    let file = file("[dispatcher]\nslots = 8\nprefetch = 32\n");
    let variables = environment(&[("HOOKLINE__DISPATCHER__SLOTS", "9"), ("PATH", "/bin")]);
    let settings = Settings::load_with(Some(file.path()), variables).unwrap();
    assert_eq!(settings.dispatcher.slots, 9);
    assert_eq!(settings.dispatcher.prefetch, 32);
    assert_eq!(settings.dispatcher.body_cache_mib, 8);
}

#[test]
fn a_variable_is_read_by_the_type_of_its_setting() {
    let settings = from_environment(&[
        ("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[1, 2,3]"),
        ("HOOKLINE__TARGETS__ALLOW_HTTP", "true"),
        (
            "HOOKLINE__TARGETS__ALLOW_NETWORKS",
            r#"[10.20.0.0/16, "fd12::/32"]"#,
        ),
        ("HOOKLINE__TARGETS__PORTS", "[443,8443]"),
        (
            "HOOKLINE__TARGETS__NAME_SERVERS",
            r#"["10.0.0.2", "[fd12::1]:5353"]"#,
        ),
        ("HOOKLINE__TARGETS__EXTRA_CA_FILE", "/etc/ca.pem"),
        ("HOOKLINE__TARGETS__MAX_PER_SECOND_PER_ORIGIN", "0"),
        ("HOOKLINE__LOG__FORMAT", "json"),
        ("HOOKLINE__LOG__LEVEL", "warn,hookline_ingest=debug"),
        ("HOOKLINE__API__LISTEN", "[::1]:80"),
        ("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "0"),
    ])
    .unwrap();
    let schedule = RetrySchedule::new(vec![1, 2, 3]).unwrap();
    assert_eq!(settings.retry.schedule, schedule);
    assert!(settings.targets.allow_http);
    let targets = &settings.targets;
    assert_eq!(
        targets.allow_networks[..],
        [network("10.20.0.0/16"), network("fd12::/32")]
    );
    assert_eq!(targets.ports[..], [443, 8443]);
    let servers = ["10.0.0.2:53", "[fd12::1]:5353"].map(|server| server.parse().unwrap());
    assert_eq!(targets.name_servers[..], servers);
    assert_eq!(targets.extra_ca_file, Some("/etc/ca.pem".into()));
    assert_eq!(targets.origin_rate(), None);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.api.listen.port(), 80);
    assert!(settings.start.wait_for_peers.is_zero());
}

#[test]
fn a_text_that_looks_like_something_else_stays_a_text() {
    for text in [
        "amqp://u:1234@h/true",
        "amqp://u:[1,2]@h",
        "amqp://u:\"a\"@h",
    ] {
        let settings = from_environment(&[("HOOKLINE__BROKER__URL", text)]).unwrap();
        assert_eq!(settings.broker.url.expose(), text);
    }
    let line = refused("HOOKLINE__LOG__FORMAT", "1");
    assert_snapshot!(line, @r#"setting log.format = "1" (from HOOKLINE__LOG__FORMAT) is not allowed: it must be "text" or "json""#);
}

#[test]
fn a_bad_value_is_named_with_its_origin_and_what_is_allowed() {
    let lines = [
        refused("HOOKLINE__DISPATCHER__SLOTS", "0"),
        refused("HOOKLINE__DISPATCHER__SLOTS", "-1"),
        refused("HOOKLINE__DISPATCHER__SLOTS", "1.5"),
        refused("HOOKLINE__DISPATCHER__SLOTS", ""),
        refused("HOOKLINE__INGEST__PREFETCH", "65536"),
        refused("HOOKLINE__INGEST__MAX_WAITING", "99999999999999999999999"),
        refused("HOOKLINE__API__LISTEN", "localhost:80"),
        refused("HOOKLINE__API__TRUSTED_PROXIES", "[10.0.0.1/8]"),
        refused("HOOKLINE__API__FORWARDED_HEADER", "x-real-ip"),
        refused("HOOKLINE__API__CORS_ORIGINS", "[\"*\"]"),
        refused(
            "HOOKLINE__API__CORS_ORIGINS",
            "[\"https://app.example.com/\"]",
        ),
        refused(
            "HOOKLINE__API__CORS_ORIGINS",
            "[\"https://App.example.com\"]",
        ),
        refused("HOOKLINE__API__CORS_ORIGINS", "[\"null\"]"),
        refused("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[5, 0]"),
        refused("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[5, soon]"),
        refused("HOOKLINE__RETRY__SCHEDULE_SECONDS", "5"),
        refused("HOOKLINE__TARGETS__ALLOW_HTTP", "yes"),
        refused("HOOKLINE__TARGETS__PORTS", "[]"),
        refused("HOOKLINE__TARGETS__PORTS", "[443, 65536]"),
        refused("HOOKLINE__TARGETS__ALLOW_NETWORKS", "[10.0.0.0]"),
        refused("HOOKLINE__TARGETS__ALLOW_NETWORKS", "[10.0.0.1/8]"),
        refused("HOOKLINE__TARGETS__NAME_SERVERS", "[localhost]"),
        refused("HOOKLINE__TARGETS__MAX_PER_SECOND_PER_ORIGIN", "-1"),
        refused("HOOKLINE__LOG__LEVEL", "inof"),
        refused("HOOKLINE__LOG__LEVEL", "a=b=c"),
        refused_file("[retention]\ndays = 0\n"),
        refused_file("[log]\nformat = 1\n"),
        refused_file("[log]\nformat = 1979-05-27\n"),
        refused_file("[retry]\nschedule_seconds = [[1]]\n"),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    setting dispatcher.slots = 0 (from HOOKLINE__DISPATCHER__SLOTS) is not allowed: it must be from 1 to 10000
    setting dispatcher.slots = -1 (from HOOKLINE__DISPATCHER__SLOTS) is not allowed: it must be from 1 to 10000
    setting dispatcher.slots = "1.5" (from HOOKLINE__DISPATCHER__SLOTS) is not allowed: it must be a whole number from 1 to 10000
    setting dispatcher.slots = "" (from HOOKLINE__DISPATCHER__SLOTS) is not allowed: it must be a whole number from 1 to 10000
    setting ingest.prefetch = 65536 (from HOOKLINE__INGEST__PREFETCH) is not allowed: it must be from 1 to 65535
    setting ingest.max_waiting = "99999999999999999999999" (from HOOKLINE__INGEST__MAX_WAITING) is not allowed: it must be a whole number from 1 to 100000000
    setting api.listen = "localhost:80" (from HOOKLINE__API__LISTEN) is not allowed: it must be an IP address and a port such as 127.0.0.1:8080
    setting api.trusted_proxies = ["10.0.0.1/8"] (from HOOKLINE__API__TRUSTED_PROXIES) is not allowed: it must be a list of networks such as ["10.20.0.0/16", "fd12:3456::/32"], with zeros behind the prefix
    setting api.forwarded_header = "x-real-ip" (from HOOKLINE__API__FORWARDED_HEADER) is not allowed: it must be "x-forwarded-for" or "forwarded"
    setting api.cors_origins = ["*"] (from HOOKLINE__API__CORS_ORIGINS) is not allowed: it must be a list of at most 100 exact origins such as ["https://app.example.com", "http://localhost:3000"], in lower case and without a path
    setting api.cors_origins = ["https://app.example.com/"] (from HOOKLINE__API__CORS_ORIGINS) is not allowed: it must be a list of at most 100 exact origins such as ["https://app.example.com", "http://localhost:3000"], in lower case and without a path
    setting api.cors_origins = ["https://App.example.com"] (from HOOKLINE__API__CORS_ORIGINS) is not allowed: it must be a list of at most 100 exact origins such as ["https://app.example.com", "http://localhost:3000"], in lower case and without a path
    setting api.cors_origins = ["null"] (from HOOKLINE__API__CORS_ORIGINS) is not allowed: it must be a list of at most 100 exact origins such as ["https://app.example.com", "http://localhost:3000"], in lower case and without a path
    setting retry.schedule_seconds = [5, 0] (from HOOKLINE__RETRY__SCHEDULE_SECONDS) is not allowed: each wait must be from 1 to 86400 seconds
    setting retry.schedule_seconds = [5, "soon"] (from HOOKLINE__RETRY__SCHEDULE_SECONDS) is not allowed: it must be a list of whole seconds such as [5, 30, 120]
    setting retry.schedule_seconds = 5 (from HOOKLINE__RETRY__SCHEDULE_SECONDS) is not allowed: it must be a list of whole seconds such as [5, 30, 120]
    setting targets.allow_http = "yes" (from HOOKLINE__TARGETS__ALLOW_HTTP) is not allowed: it must be true or false
    setting targets.ports = [] (from HOOKLINE__TARGETS__PORTS) is not allowed: it must be a list of ports from 1 to 65535 such as [443, 8443]
    setting targets.ports = [443, 65536] (from HOOKLINE__TARGETS__PORTS) is not allowed: it must be a list of ports from 1 to 65535 such as [443, 8443]
    setting targets.allow_networks = ["10.0.0.0"] (from HOOKLINE__TARGETS__ALLOW_NETWORKS) is not allowed: it must be a list of networks such as ["10.20.0.0/16", "fd12:3456::/32"], with zeros behind the prefix
    setting targets.allow_networks = ["10.0.0.1/8"] (from HOOKLINE__TARGETS__ALLOW_NETWORKS) is not allowed: it must be a list of networks such as ["10.20.0.0/16", "fd12:3456::/32"], with zeros behind the prefix
    setting targets.name_servers = ["localhost"] (from HOOKLINE__TARGETS__NAME_SERVERS) is not allowed: it must be a list of IP addresses, with or without a port, such as ["10.0.0.2:53"]
    setting targets.max_per_second_per_origin = -1 (from HOOKLINE__TARGETS__MAX_PER_SECOND_PER_ORIGIN) is not allowed: it must be from 0 to 1000000
    setting log.level = "inof" (from HOOKLINE__LOG__LEVEL) is not allowed: it must be error, warn, info, debug, trace or off, also by module: info,hookline_dispatcher=debug
    setting log.level = "a=b=c" (from HOOKLINE__LOG__LEVEL) is not allowed: it must be error, warn, info, debug, trace or off, also by module: info,hookline_dispatcher=debug
    setting retention.days = 0 (from FILE) is not allowed: it must be from 1 to 3650
    setting log.format = 1 (from FILE) is not allowed: it must be "text" or "json"
    setting log.format = {…} (from FILE) is not allowed: it must be "text" or "json"
    setting retry.schedule_seconds = [[1]] (from FILE) is not allowed: it must be a list of whole seconds such as [5, 30, 120]
    "#);
}

#[test]
fn all_bad_settings_are_named_at_once() {
    let file = file("[api]\nworkers = 0\nspeed = 1\n");
    let variables = environment(&[
        ("HOOKLINE__ADMIN__LISTEN", "here"),
        ("HOOKLINE__ADMIN__PORT", "1"),
    ]);
    let error = Settings::load_with(Some(file.path()), variables).unwrap_err();
    let path = file.path().display().to_string();
    assert_snapshot!(error.to_string().replace(&path, "FILE").replace("; ", ";\n"), @r#"
    setting admin.listen = "here" (from HOOKLINE__ADMIN__LISTEN) is not allowed: it must be an IP address and a port such as 127.0.0.1:8080;
    setting admin.port (from HOOKLINE__ADMIN__PORT) is unknown: [admin] has listen;
    setting api.speed (from FILE) is unknown: [api] has burst_per_key, cors_origins, failed_tries_per_minute, forwarded_header, listen, max_connections, max_retries_per_minute, max_streams_per_organization, max_subscriptions, max_tests_per_minute, request_deadline_ms, requests_per_second_per_key, trusted_proxies, workers;
    setting api.workers = 0 (from FILE) is not allowed: it must be from 1 to 256
    "#);
}

#[test]
fn an_unknown_setting_is_refused_with_its_name() {
    let lines = [
        refused("HOOKLINE__DISPATCHER__SLOT", "64"),
        refused("HOOKLINE__DISPATCH__SLOTS", "64"),
        refused("HOOKLINE__DISPATCHER", "64"),
        refused("HOOKLINE__Dispatcher__slots", "64"),
        refused("HOOKLINE__DISPATCHER_SLOTS", "64"),
        refused_file("[admin]\nlisten_on = \"\"\n"),
        refused_file("[adnim]\nlisten = \"\"\n"),
        refused_file("admin = \"127.0.0.1:80\"\n"),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    setting dispatcher.slot (from HOOKLINE__DISPATCHER__SLOT) is unknown: [dispatcher] has body_cache_mib, breaker_failures, deadline_seconds, failing_after_seconds, prefetch, slots
    setting dispatch.slots (from HOOKLINE__DISPATCH__SLOTS) is unknown: the sections are admin, api, broker, dispatcher, ingest, limits, log, poison, replay, retention, retry, secrets, start, stop, store, targets, telemetry
    setting dispatcher (from HOOKLINE__DISPATCHER) is unknown: [dispatcher] has body_cache_mib, breaker_failures, deadline_seconds, failing_after_seconds, prefetch, slots
    setting dispatcher.slots (from HOOKLINE__Dispatcher__slots) is unknown: its name is HOOKLINE__DISPATCHER__SLOTS
    setting dispatcher_slots (from HOOKLINE__DISPATCHER_SLOTS) is unknown: its name is HOOKLINE__DISPATCHER__SLOTS
    setting admin.listen_on (from FILE) is unknown: [admin] has listen
    setting adnim (from FILE) is unknown: the sections are admin, api, broker, dispatcher, ingest, limits, log, poison, replay, retention, retry, secrets, start, stop, store, targets, telemetry
    setting admin = … (from FILE) is not allowed: it must be a section: [admin]
    "#);
}

#[test]
fn a_master_key_is_never_shown() {
    for file in [
        "[secrets]\nkeys = [\"k1:hush\"]\n",
        "[secrets]\nkeys = {k1 = \"hush\"}\n",
        "[secrets]\nkey = \"k1:hush\"\n",
    ] {
        let line = refused_file(file);
        assert!(
            line.contains("setting secrets.key") && !line.contains("hush"),
            "{line}"
        );
    }
    let given = from_environment(&[("HOOKLINE__SECRETS__KEYS", "k1:hush")]).unwrap();
    assert!(!format!("{given:?}").contains("hush"));
}

#[test]
fn a_password_is_never_shown() {
    for (variable, value) in [
        ("HOOKLINE__STORE__URL", "mysql://u:hunter2@h/db"),
        ("HOOKLINE__STORE__URL", "hunter2"),
        ("HOOKLINE__BROKER__URL", "http://u:hunter2@h"),
        ("HOOKLINE__BROKER__URL", "amqp://u:hunter2@a,u:hunter2@b"),
        ("HOOKLINE__BROKER__URL", "amqp://u:hunter2@a:0"),
        ("HOOKLINE__BROKER__URL", "amqp://u:hunter2@a, b"),
        ("HOOKLINE__BROKER__URL", "amqp://u:hunter2@a,"),
        ("HOOKLINE__BROKER__URL", "amqp://u:hunter2@::1"),
        ("HOOKLINE__BROKER__URL", "amqp://u:1,2/hunter2@h"),
        ("HOOKLINE__STORE__URL", "host=h user=u password=hunter2"),
        ("HOOKLINE__STORE__URL", "postgres://u:hunter2%zz@h/db"),
        ("HOOKLINE__STORE__URL", "postgres://u:1@hunter2@h/db"),
        ("HOOKLINE__TELEMETRY__OTLP_ENDPOINT", "http://u:1/hunter2@h"),
        ("HOOKLINE__TELEMETRY__OTLP_ENDPOINT", "hunter2"),
        ("HOOKLINE__STORE__PASSWORD", "hunter2"),
    ] {
        let line = refused(variable, value);
        assert!(!line.contains("hunter2"), "{line}");
    }
    for text in [
        "[store]\nurl = \"mysql://u:hunter2@h/db\"\n",
        "[store]\nurl = [\"hunter2\"]\n",
        "[store]\nurl = { password = \"hunter2\" }\n",
        "[store]\nurl = \"hunter2\n",
        "[store]\nurl = hunter2\n",
        "store = \"hunter2\"\n",
    ] {
        let line = refused_file(text);
        assert!(!line.contains("hunter2"), "{line}");
    }
    let url = "postgres://u:hunter2@127.0.0.1/db";
    let settings = from_environment(&[("HOOKLINE__STORE__URL", url)]).unwrap();
    assert_eq!(settings.store.url.expose(), url);
    let shown = format!("{settings:?}");
    assert!(shown.contains("postgres://u:***@127.0.0.1/db"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let lines = [
        refused("HOOKLINE__STORE__URL", "mysql://u:hunter2@h/db"),
        refused("HOOKLINE__STORE__URL", "hunter2"),
        refused("HOOKLINE__BROKER__URL", "amqp://u:hunter2@a,b:0/v"),
        refused("HOOKLINE__BROKER__URL", "amqp://u:hunter2@a,u:hunter2@b"),
        refused("HOOKLINE__STORE__URL", "postgres://u:hunter2%zz@h/db"),
        refused("HOOKLINE__STORE__URL", "postgres://u:1@hunter2@h/db"),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    setting store.url = "mysql://u:***@h/db" (from HOOKLINE__STORE__URL) is not allowed: it must be a URL that begins with postgres://
    setting store.url = "***" (from HOOKLINE__STORE__URL) is not allowed: it must be a URL that begins with postgres://
    setting broker.url = "amqp://u:***@a,b:0/v" (from HOOKLINE__BROKER__URL) is not allowed: it must have a port from 1 to 65535 behind the colon of a host; in the user and the password, % is written %25, @ %40, / %2F, \ %5C, ? %3F, # %23, : %3A, a comma %2C and a space %20
    setting broker.url = "amqp://u:***@b" (from HOOKLINE__BROKER__URL) is not allowed: it must have the user and password once, before the first host: USER:PASSWORD@a,b (an @ or a comma in the password is written %40 or %2C)
    setting store.url = "postgres://u:***@h/db" (from HOOKLINE__STORE__URL) is not allowed: it must have two hexadecimal digits after each %, and not %00; in the user and the password, % is written %25, @ %40, / %2F, \ %5C, ? %3F, # %23, : %3A, a comma %2C and a space %20
    setting store.url = "postgres://u:***@h/db" (from HOOKLINE__STORE__URL) is not allowed: it must have one @ at most, before the host, and what is special in its user, its password and its parameters percent-encoded; in the user and the password, % is written %25, @ %40, / %2F, \ %5C, ? %3F, # %23, : %3A, a comma %2C and a space %20
    "#);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With any text around it, a refused URL does not show the password. An accepted URL has it as its password,
    /// where no library looks for a host or a parameter.
    #[test]
    fn no_password_breaks_its_url_and_is_shown(
        before in r"[a1@/?#:,;%=&\\ü \[\]+!$*()'.|<>^{}~-]{0,6}",
        behind in r"[a1@/?#:,;%=&\\ü \[\]+!$*()'.|<>^{}~-]{0,6}",
    ) {
        for (variable, scheme) in [
            ("HOOKLINE__STORE__URL", "postgres"),
            ("HOOKLINE__BROKER__URL", "amqp"),
            ("HOOKLINE__TELEMETRY__OTLP_ENDPOINT", "http"),
        ] {
            let url = format!("{scheme}://u:{before}hunter2{behind}@h/db");
            match from_environment(&[(variable, &url)]) {
                Err(why) => prop_assert!(!why.to_string().contains("hunter2"), "{why}"),
                Ok(settings) => {
                    let parsed = Url::parse(&url).unwrap();
                    prop_assert!(parsed.password().unwrap().contains("hunter2"), "{url}");
                    prop_assert_eq!(parsed.host_str(), Some("h"));
                    prop_assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
                }
            }
        }
    }
}

#[test]
fn an_error_of_the_settings_has_the_format_of_the_log() {
    let json = file("[log]\nformat = \"json\"\n[api]\nworkers = 0\n");
    assert_eq!(wanted_format(Some(json.path()), None), LogFormat::Json);
    assert_eq!(
        wanted_format(Some(json.path()), Some("text")),
        LogFormat::Text
    );
    assert_eq!(wanted_format(None, Some("json")), LogFormat::Json);
    assert_eq!(wanted_format(None, None), LogFormat::Text);
}

#[test]
fn a_missing_url_is_asked_for_by_name() {
    let settings = from_environment(&[]).unwrap();
    let lines = [
        settings.store.required_url().unwrap_err().to_string(),
        settings.broker.required_url().unwrap_err().to_string(),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    setting store.url is not set: it must look like postgres://USER:PASSWORD@HOST/DATABASE (in the file of --config, or as HOOKLINE__STORE__URL)
    setting broker.url is not set: it must look like amqp://USER:PASSWORD@HOST/VHOST (in the file of --config, or as HOOKLINE__BROKER__URL)
    "#);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let lines = [
        refused_file("[store\n"),
        refused_file("[api]\nworkers = 1\nworkers = 2\n"),
    ];
    assert_snapshot!(lines.join("\n"), @r#"
    the settings file FILE is not TOML: line 1: unclosed table, expected `]`
    the settings file FILE is not TOML: line 3: duplicate key
    "#);
    let absent = Settings::load_with(Some(Path::new("absent.toml")), []).unwrap_err();
    assert_snapshot!(format!("{:#}", anyhow::Error::from(absent)), @"the settings file absent.toml cannot be read: No such file or directory (os error 2)");
    assert!(from_file("").is_ok());
}

#[test]
fn prefetch_must_exceed_slots() {
    let line = refused("HOOKLINE__DISPATCHER__PREFETCH", "256");
    assert_snapshot!(line, @"setting dispatcher.prefetch = 256 (from HOOKLINE__DISPATCHER__PREFETCH) is not allowed: it must be more than dispatcher.slots, which is 256");
    let both = [
        ("HOOKLINE__DISPATCHER__PREFETCH", "17"),
        ("HOOKLINE__DISPATCHER__SLOTS", "16"),
    ];
    assert!(from_environment(&both).is_ok());
}
