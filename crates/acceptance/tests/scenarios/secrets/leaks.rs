//! Leaks of secrets: a full run with everything that can go wrong, at the loudest log level. Then a search of all its
//! output.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, MASTER_KEY, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api_keys::{everything_kept, hex};

const SECRET: &str = "planted-secret-5c1f";
const NEXT_SECRET: &str = "planted-next-secret-77aa";
const ENCODED_SECRET: &str = "whsec_cGxhbnRlZC1lbmNvZGVkLXNlY3JldA==";
const HEADER: &str = "planted-header-value-90be";
const DATA: &str = "planted-data-4e2d";
const ANSWER: &str = "planted-answer-31c7";
const TOKEN: &str = "planted-url-token-b8f0";
const REFLECTED: [&str; 3] = ["authorization", "x-webhook-signature", "webhook-signature"];
const WRONG_KEY: &str = "hk_planted-wrong-key-6d3a";

/// The output of processes, by the place where it appeared.
type Outputs = Vec<(String, Vec<u8>)>;

pub(super) async fn secrets_are_in_no_output_and_not_in_the_database(
    mode: Mode,
) -> anyhow::Result<()> {
    let collector = Receiver::healthy()?;
    let deployment = Deployment::start_with(
        mode,
        &[
            ("HOOKLINE__LOG__LEVEL", "trace"),
            ("HOOKLINE__TELEMETRY__OTLP_ENDPOINT", &collector.url("")),
            ("OTEL_TRACES_SAMPLER", "always_on"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ],
    )
    .await?;
    let tenant = deployment.tenant().await?;
    let key = deployment.key(&["--org", &tenant.organization]).await?;
    let client = tenant.client.with_key(Some(&key));
    let (mut outputs, signatures) = run(&deployment, &client, &tenant).await?;
    let generated = generate(&client).await?;

    // A part ends by a panic in the middle of it, and a command has bad settings.
    deployment.kill(Service::Dispatcher).await?;
    let panics = [("FAILPOINTS", "dispatcher::requested=panic")];
    deployment
        .start_service(Service::Dispatcher, &panics)
        .await?;
    deployment.wait_ready().await?;
    // In the standalone deployment the process may end before it answers.
    let published = tenant.publish(&[event_with_data(&tenant)]).await;
    if deployment.mode == Mode::Distributed {
        published?;
    }
    deployment.replace_crashed(Service::Dispatcher).await?;
    ensure!(
        deployment.output().await.contains("panicked"),
        "nothing panicked"
    );
    let wrong = format!("k1:{HEADER}");
    let variables = [("HOOKLINE__SECRETS__KEYS", wrong.as_str())];
    let refused = deployment
        .hookline_with(&["secrets", "rekey"], &variables)
        .await;
    let why = refused.err().context("a key that is none was taken")?;
    outputs.push(("a refused command".to_owned(), format!("{why:#}").into()));
    until("spans of attempts", async || {
        let spans = collector.received();
        let has = |needle: &[u8]| spans.iter().any(|span| holds(&span.body, needle));
        Ok(has(b"attempt").then_some(()))
    })
    .await?;
    for span in collector.received() {
        outputs.push(("a span".to_owned(), span.body.to_vec()));
    }
    for service in deployment.services() {
        let metrics =
            hookline_testkit::http::get(format!("{}/metrics", deployment.admin(service).await?))
                .await?;
        outputs.push((
            format!("{service:?}'s metrics"),
            metrics.bytes().await?.into(),
        ));
    }
    let logs = deployment.output().await;
    ensure!(
        logs.contains("TRACE hookline"),
        "the log is not at its loudest"
    );
    outputs.push(("the logs".to_owned(), logs.into()));

    let master = MASTER_KEY.trim_start_matches("k1:");
    let stays_inside = [
        SECRET,
        NEXT_SECRET,
        ENCODED_SECRET,
        HEADER,
        key.as_str(),
        WRONG_KEY,
        master,
    ];
    let passwords = passwords(&deployment)?;
    let stays_inside = stays_inside
        .into_iter()
        .chain(generated.iter().map(String::as_str));
    let stays_inside: Vec<&str> = stays_inside.collect();
    let in_no_output = [DATA, ANSWER, TOKEN].map(str::to_owned);
    let stay_inside = stays_inside.iter().map(|text| (*text).to_owned());
    let stay_inside: Vec<String> = stay_inside.collect();
    for (place, bytes) in &outputs {
        let text = String::from_utf8_lossy(bytes);
        for planted in stay_inside.iter().chain(&in_no_output).chain(&passwords) {
            for spelling in spellings(planted) {
                ensure!(
                    !text.contains(&spelling),
                    "{planted} is in {place} as {spelling}: {}",
                    around(bytes, &spelling)
                );
            }
        }
    }
    let kept = everything_kept(&deployment).await?;
    ensure!(
        holds(&kept, TOKEN.as_bytes()),
        "the search does not find what is there"
    );
    for planted in stays_inside {
        let there =
            holds(&kept, planted.as_bytes()) || holds(&kept, hex(planted.as_bytes()).as_bytes());
        ensure!(!there, "{planted} is in the database");
    }
    for signature in signatures {
        let there = holds(&kept, signature.as_bytes());
        ensure!(!there, "the signature {signature} is in the database");
    }
    deployment.end().await
}

/// Does everything that a customer does and that may go wrong. No answer that it returns may hold a secret. The signatures
/// of a request are returned beside the answers.
async fn run(
    deployment: &Deployment,
    client: &ApiClient,
    tenant: &Tenant<'_>,
) -> anyhow::Result<(Outputs, Vec<String>)> {
    // It reflects the secrets that a request holds.
    let good = Receiver::with(|request, _| {
        let mut reply = Reply::status(200);
        for name in REFLECTED {
            let value = request.headers.get(name).map_or("", String::as_str);
            reply = reply.with_header(&format!("reflected-{name}"), value);
        }
        reply
            .with_header("authorization", HEADER)
            .with_header("set-cookie", HEADER)
    })?;
    let failing = Receiver::with(|_, _| Reply::status(500).with_body(ANSWER))?;
    let hanging = "http://127.0.0.1:9";
    let mut ids = Vec::new();
    for (url, secret) in [
        (good.url(&format!("/?token={TOKEN}")), SECRET),
        (failing.url(&format!("/?token={TOKEN}")), ENCODED_SECRET),
        (format!("{hanging}/?token={TOKEN}"), SECRET),
    ] {
        let body = json!({
            "name": "n", "url": url, "events": ["workflow.started"], "secret": secret,
            "headers": {"Authorization": HEADER},
        });
        ids.push(client.subscribe(&body).await?);
    }
    let mut outputs = Outputs::new();
    for body in [
        json!({"secret": NEXT_SECRET, "headers": {"X-A": HEADER}, "nonsense": SECRET}),
        json!({"secret": ENCODED_SECRET.to_owned() + "?", "headers": {"Host": HEADER}}),
        json!({"headers": [HEADER], "url": format!("http://u:{SECRET}@h")}),
        json!({"secret": {"a": SECRET}}),
    ] {
        let path = format!("/webhooks/{}", ids[0]);
        let refused = client.patch(&path, &body).await?.problem(422)?;
        outputs.push(("a 422".to_owned(), refused.json.to_string().into()));
    }
    let broken = client
        .request(Method::POST, "/webhooks")
        .header("content-type", "application/json")
        .body(format!("{{\"secret\": \"{SECRET}\" \"{HEADER}\""));
    let refused = client.send(broken).await?.problem(400)?;
    outputs.push(("a 400".to_owned(), refused.json.to_string().into()));
    let refused = client.with_key(Some(WRONG_KEY)).get("/webhooks").await?;
    outputs.push(("a 401".to_owned(), refused.json.to_string().into()));
    let path = format!("/webhooks/{}", ids[0]);
    let changed = client.patch(&path, &json!({"secret": NEXT_SECRET})).await?;
    outputs.push((
        "a change".to_owned(),
        changed.expect(200)?.json["header_names"].to_string().into(),
    ));

    let mut event = event_with_data(tenant);
    tenant.publish(&[event.clone()]).await?;
    event["event_id"] = Value::Null;
    client.post("/events", &event).await?.problem(422)?;
    // The broker has no caller that could be told: the event is dead-lettered.
    tenant.publish(&[event]).await.ok();
    good.wait_for(1).await?[0].verify(NEXT_SECRET)?;
    let received = good.received().swap_remove(0);
    ensure!(received.header("authorization")? == HEADER);
    let entry = client.wait_for_log(ids[0], 1).await?.swap_remove(0);
    let reflected = entry["response_headers"].as_array().context("headers")?;
    ensure!(reflected.len() >= REFLECTED.len(), "{entry}");
    let signatures = ["x-webhook-signature", "webhook-signature"].map(|name| {
        let signature = received.header(name)?;
        anyhow::Ok(signature.trim_start_matches("v1,").to_owned())
    });
    let signatures = signatures
        .into_iter()
        .collect::<anyhow::Result<Vec<String>>>()?;
    for id in &ids[1..] {
        client.wait_for_log(*id, 2).await?;
        client
            .post(&format!("/webhooks/{id}/test"), &json!({}))
            .await?
            .expect(202)?;
        client
            .delete(&format!("/webhooks/{id}"))
            .await?
            .expect(204)?;
    }
    for args in [&["key", "list"][..], &["org", "list"]] {
        outputs.push((format!("{args:?}"), deployment.hookline(args).await?.into()));
    }
    Ok((outputs, signatures))
}

/// Secrets that Hookline generated, for requests that are repeated. Their stored responses have the secrets.
async fn generate(client: &ApiClient) -> anyhow::Result<Vec<String>> {
    let body = json!({
        "name": "n", "url": "http://127.0.0.1:9", "events": ["workflow.failed"],
        "secret": {"generate": true},
    });
    let repeated = async |path: &str, body: &Value| {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let request = client.request(Method::POST, path).json(body);
            let answer = client.send(request.header("idempotency-key", "k")).await?;
            ensure!(answer.status.is_success(), "{answer:?}");
            answers.push(answer.json);
        }
        ensure!(answers[0] == answers[1], "{answers:?}");
        Ok(answers.swap_remove(0))
    };
    let created = repeated("/webhooks", &body).await?;
    let path = format!("/webhooks/{}/secret/rotate", created["id"]);
    let rotated = repeated(&path, &json!({})).await?;
    let secret = |answer: &Value| {
        let secret = answer["secret"].as_str().context("a secret")?;
        ensure!(secret.starts_with("whsec_"), "{secret}");
        Ok(secret.to_owned())
    };
    Ok(vec![secret(&created)?, secret(&rotated)?])
}

fn event_with_data(tenant: &Tenant<'_>) -> Value {
    let mut event = tenant.event("workflow.started");
    event["data"] = json!({"of a customer": DATA});
    event
}

/// The passwords of the database and of the broker.
fn passwords(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    if deployment.mode == Mode::Standalone {
        return Ok(Vec::new());
    }
    let dependencies = deployment.dependencies()?;
    let mut passwords = Vec::new();
    for url in [&dependencies.database, &dependencies.amqp] {
        let url: reqwest::Url = url.parse()?;
        let password = url.password().context("a URL with a password")?;
        ensure!(
            password.len() > 10,
            "a password that stands by chance in a log"
        );
        passwords.push(password.to_owned());
    }
    Ok(passwords)
}

/// A text as libraries log it: as it is, as the numbers of its bytes, and in base64. The base64 depends on the text's
/// offset in the encoded bytes.
fn spellings(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let numbers = |write: fn(&u8) -> String, between: &str| {
        bytes.iter().map(write).collect::<Vec<_>>().join(between)
    };
    let mut spellings = vec![
        text.to_owned(),
        numbers(u8::to_string, ", "),
        numbers(u8::to_string, ","),
        numbers(u8::to_string, " "),
        hex(bytes),
        hex(bytes).to_uppercase(),
        numbers(|byte| format!("{byte:02x}"), " "),
        numbers(|byte| format!("{byte:x}"), ", "),
        numbers(|byte| format!("0x{byte:02x}"), ", "),
    ];
    for before in 0..3 {
        let shifted = [&vec![0; before][..], bytes].concat();
        // Whole groups of the text alone: their letters depend on nothing around them.
        let (begin, end) = (before.div_ceil(3) * 4, shifted.len() / 3 * 4);
        spellings.extend(
            [STANDARD, URL_SAFE].map(|base64| base64.encode(&shifted)[begin..end].to_owned()),
        );
    }
    spellings
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// The line in which it stands.
fn around(bytes: &[u8], planted: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().find(|line| line.contains(planted));
    line.unwrap_or_default().chars().take(2_000).collect()
}
