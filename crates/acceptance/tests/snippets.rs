//! The code of the documents. The README and `docs/receivers.md` show the files of `examples/verify`
//! letter for letter, and each file accepts Hookline's signatures and nothing else.
//! `docs/receivers.md` also shows `examples/repeats`, which drops repeats.

#[path = "../../../examples/verify/verify.rs"]
#[expect(unreachable_pub, reason = "written for a receiver's own crate")]
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use hookline_testkit::dependencies::variable;
use hookline_testkit::managed_process::{binary, free_port};
use http::{HeaderMap, HeaderName, HeaderValue};
use ring as _; // for `verify`: cargo-shear does not look into it
use serde_json::{Value, json};
use standardwebhooks::Webhook;

/// More than the five minutes that a snippet allows for.
const TOO_FAR: i64 = 330;

const PYTHON: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
from verify import verify, verify_body
answers = []
for case in json.load(sys.stdin):
    request = case['secret'], case['headers'], case['body'].encode()
    answers.append([verify(*request, case['now']), verify_body(*request)])
json.dump(answers, sys.stdout)
";

const NODE: &str = "
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
const { verify, verifyBody } = await import(pathToFileURL(`${process.argv[1]}/verify.mjs`));
const answers = JSON.parse(readFileSync(0)).map(({ secret, headers, body, now }) => {
  const request = [secret, headers, Buffer.from(body)];
  return [verify(...request, now), verifyBody(...request)];
});
console.log(JSON.stringify(answers));
";

/// Sends requests side by side, and writes how many lines came of them and how many of these were whole.
const AT_ONCE: &str = "
import http.client, subprocess, sys, threading
receiver, port = sys.argv[1], int(sys.argv[2])
body = 'a' * 3000

def send():
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
    connection.request('POST', '/', body, {'webhook-id': 'id'})
    connection.getresponse().read()
    connection.close()

def begin():
    while True:
        try:
            return send()
        except ConnectionRefusedError:
            assert process.poll() is None

process = subprocess.Popen([sys.executable, '-B', receiver, str(port), 'hush'], stdout=subprocess.PIPE, text=True)
begin()
senders = [threading.Thread(target=lambda: [send() for _ in range(50)]) for _ in range(8)]
for sender in senders:
    sender.start()
lines = [process.stdout.readline() for _ in range(401)]
for sender in senders:
    sender.join()
process.kill()
print(lines.count(f'forged id {body}\\n'))
";

const PYTHON_LIBRARY: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
from library import verify

def holds(case):
    try:
        verify(case['secret'], case['headers'], case['body'].encode())
        return [True]
    except Exception:
        return [False]

json.dump([holds(case) for case in json.load(sys.stdin)], sys.stdout)
";

const NODE_LIBRARY: &str = "
import { readFileSync } from 'node:fs';
import { verify } from './library.mjs';
const holds = ({ secret, headers, body }) => {
  try {
    verify(secret, headers, Buffer.from(body));
    return [true];
  } catch {
    return [false];
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(holds)));
";

const REPEATS: &str = "
import sqlite3, sys, threading
sys.path.insert(0, sys.argv[1])
from once import once, REMEMBER

connect = lambda: sqlite3.connect(sys.argv[2], timeout=30)
database = connect()
database.execute('CREATE TABLE orders (name TEXT)')

def order(name):
    return lambda database: database.execute('INSERT INTO orders VALUES (?)', (name,))

def crash(database):
    order('half')(database)
    raise RuntimeError

once(database, 'a', 0, order('first'))
once(database, 'a', 5, order('a repeat'))
try:
    once(database, 'b', 6, crash)
except RuntimeError:
    once(database, 'b', 7, order('after a crash'))
racers = [threading.Thread(target=lambda: once(connect(), 'c', 8, order('at once'))) for _ in range(8)]
for racer in racers: racer.start()
for racer in racers: racer.join()
once(database, 'a', REMEMBER, order('remembered'))
once(database, 'd', REMEMBER + 1, order('later'))
once(database, 'a', REMEMBER + 2, order('forgotten'))
print(' | '.join(name for name, in database.execute('SELECT name FROM orders ORDER BY rowid')))
";

/// A request that reaches a receiver, and whether each of its two signatures must hold.
struct Case {
    what: String,
    request: Value,
    holds: [bool; 2],
}

impl Case {
    fn body(&self) -> &str {
        self.request["body"].as_str().unwrap_or_default()
    }
}

#[test]
fn a_receiver_in_rust_accepts_what_hookline_signs_and_nothing_else() -> anyhow::Result<()> {
    // The crate asks the clock itself, so its requests are of now.
    for case in cases_of_now()? {
        let secret = text(&case.request["secret"])?;
        let body = case.body().as_bytes();
        let mut headers = HeaderMap::new();
        for (name, value) in case.request["headers"].as_object().context("headers")? {
            headers.insert(
                HeaderName::try_from(name)?,
                HeaderValue::try_from(text(value)?)?,
            );
        }
        let answer = [
            verify::verify(secret, &headers, body),
            verify::verify_body(secret, &headers, body),
        ];
        assert_eq!(answer, case.holds, "{}", case.what);
    }
    Ok(())
}

#[test]
fn a_receiver_in_python_accepts_what_hookline_signs_and_nothing_else() -> anyhow::Result<()> {
    let mut python = Command::new("python3");
    python.args(["-B", "-c", PYTHON]).arg(examples());
    hold_in(python, &cases(|then| then)?)
}

#[test]
fn a_receiver_in_node_accepts_what_hookline_signs_and_nothing_else() -> anyhow::Result<()> {
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-e", NODE])
        .arg(examples());
    hold_in(node, &cases(|then| then)?)
}

#[test]
fn the_official_libraries_of_python_and_node_accept_what_hookline_signs_and_nothing_else()
-> anyhow::Result<()> {
    let mut python =
        Command::new(PathBuf::from(variable("HOOKLINE_CLIENTS_PYTHON")?).join("python"));
    python.args(["-B", "-c", PYTHON_LIBRARY]).arg(examples());
    let mut cases = cases_of_now()?;
    // They also parse it.
    cases.retain(|case| serde_json::from_str::<Value>(case.body()).is_ok());
    hold_in(python, &cases)?;

    // A module finds the packages beside it alone.
    let folder = PathBuf::from(variable("HOOKLINE_CLIENTS_NODE")?);
    std::fs::copy(examples().join("library.mjs"), folder.join("library.mjs"))?;
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-e", NODE_LIBRARY])
        .current_dir(folder);
    hold_in(node, &cases)
}

#[test]
fn the_receiver_of_the_readme_says_in_one_line_why_it_does_not_start() -> anyhow::Result<()> {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let taken = taken.local_addr()?.port().to_string();
    let message = format!("receiver.py cannot listen on port {taken}: ");
    for (arguments, message) in [
        (&[taken.as_str(), "hush"][..], message.as_str()),
        (
            &["99999", "hush"],
            "receiver.py cannot listen on port 99999: ",
        ),
        (&["port", "hush"], "usage: "),
        (&[], "usage: "),
    ] {
        let receiver = examples().join("receiver.py");
        let mut python = Command::new("python3");
        let ended = python.arg("-B").arg(receiver).args(arguments).output()?;
        let text = String::from_utf8(ended.stderr)?;
        ensure!(ended.status.code() == Some(1), "{text}");
        ensure!(
            text.starts_with(message) && text.lines().count() == 1,
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn the_receiver_of_the_readme_prints_whole_lines_of_requests_at_once() -> anyhow::Result<()> {
    let output = Command::new("timeout")
        .args(["60", "python3", "-B", "-c", AT_ONCE])
        .arg(examples().join("receiver.py"))
        .arg(free_port()?.to_string())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.stdout == b"401\n", "{:?} {text}", output.stdout);
    Ok(())
}

#[test]
fn a_receiver_that_stores_ids_processes_each_delivery_once() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("python3")
        .args(["-B", "-c", REPEATS])
        .arg(root().join("examples/repeats"))
        .arg(folder.path().join("receiver.db"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    let orders = String::from_utf8(output.stdout)?;
    let expected = "first | after a crash | at once | later | forgotten";
    assert_eq!(orders.trim(), expected);
    Ok(())
}

#[test]
fn the_documents_show_the_snippets_as_they_are() -> anyhow::Result<()> {
    for (document, file, language) in [
        ("README.md", "examples/verify/library.py", "python"),
        ("docs/receivers.md", "examples/verify/verify.rs", "rust"),
        ("docs/receivers.md", "examples/verify/verify.py", "python"),
        ("docs/receivers.md", "examples/verify/verify.mjs", "js"),
        ("docs/receivers.md", "examples/verify/library.py", "python"),
        ("docs/receivers.md", "examples/verify/library.mjs", "js"),
        ("docs/receivers.md", "examples/repeats/once.py", "python"),
    ] {
        let code = std::fs::read_to_string(root().join(file))?;
        let shown = format!("<!-- {file} -->\n\n```{language}\n{code}```\n\n<!-- end -->");
        assert!(
            std::fs::read_to_string(root().join(document))?.contains(&shown),
            "{document} lacks, letter for letter:\n{shown}"
        );
    }
    Ok(())
}

#[test]
fn the_first_steps_of_the_readme_work_as_one_block() -> anyhow::Result<()> {
    let (api, receiver) = (free_port()?.to_string(), free_port()?.to_string());
    let program = binary("hookline")?;
    let program = program.to_str().context("a path in UTF-8")?;
    let steps = block_of("README.md", "first steps", "sh")?
        .replace("cargo build --locked -p hookline ", "# ")
        .replace(
            "target/debug/hookline dev",
            &format!("{program} dev --listen 127.0.0.1:{api}"),
        )
        .replace("> target/dev.log", "> \"$XDG_DATA_HOME/dev.log\"")
        .replace(":8080", &format!(":{api}"))
        .replace(":9000", &format!(":{receiver}"))
        .replace("receiver.py 9000", &format!("receiver.py {receiver}"));
    let folder = tempfile::tempdir()?;
    let output = Command::new("timeout")
        .args(["60", "bash", "-c"])
        .arg(format!("trap 'kill %1 %2' EXIT\n{steps}"))
        .env("XDG_DATA_HOME", folder.path())
        .current_dir(root())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("\ngenuine "), "{text}\n{errors}");
    let log = text.lines().find(|line| line.contains("\"logs\""));
    let log: Value = serde_json::from_str(log.with_context(|| format!("{text}\n{errors}"))?)?;
    assert_eq!(log["logs"][0]["status"], "success", "{log}");
    Ok(())
}

#[test]
fn a_signature_computed_by_hand_is_that_of_the_request() -> anyhow::Result<()> {
    let command = block_of("docs/receivers.md", "by hand", "sh")?;
    let folder = tempfile::tempdir()?;
    let mut computed = 0;
    for vector in vectors()?.iter().filter(|vector| {
        let secret = vector["secret"].as_str();
        secret.is_some_and(|secret| secret.starts_with("whsec_"))
    }) {
        std::fs::write(folder.path().join("body"), text(&vector["body"])?)?;
        let output = Command::new("bash")
            .args(["-c", &command])
            .current_dir(folder.path())
            .env("WEBHOOK_ID", text(&vector["webhook_id"])?)
            .env("WEBHOOK_TIMESTAMP", vector["webhook_timestamp"].to_string())
            .env("SECRET", text(&vector["secret"])?)
            .output()?;
        let ours = format!("v1,{}", String::from_utf8(output.stdout)?.trim());
        assert_eq!(vector["webhook_signature"], ours, "{}", vector["name"]);
        computed += 1;
    }
    assert!(computed > 0, "no vector has a secret with whsec_");
    Ok(())
}

/// The code between `<!-- name -->` and `<!-- end -->`.
fn block_of(document: &str, name: &str, language: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(root().join(document))?;
    let begin = format!("<!-- {name} -->\n\n```{language}\n");
    let (_, rest) = text.split_once(&begin).context(begin)?;
    let (code, _) = rest.split_once("```\n\n<!-- end -->").context("no end")?;
    Ok(code.to_owned())
}

/// Every vector as it is sent, and what an attacker or the network could make of it.
fn cases(now: impl Fn(i64) -> i64) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for vector in &vectors()? {
        let then = vector["webhook_timestamp"].as_i64().context("timestamp")?;
        let now = now(then);
        let signature = sign(vector, now)?;
        let vectors_own = vector["webhook_signature"] == signature;
        ensure!(now != then || vectors_own, "signed {vector} as {signature}");

        let mut add = |what: &str, holds, change: &dyn Fn(&mut Value)| {
            let mut request = json!({
                "secret": vector["secret"],
                "body": vector["body"],
                "now": now,
                "headers": {
                    "webhook-id": vector["webhook_id"],
                    "webhook-timestamp": now.to_string(),
                    "webhook-signature": signature,
                    "x-webhook-signature": vector["x_webhook_signature"],
                },
            });
            change(&mut request);
            let what = format!("{}: {what}", vector["name"]);
            cases.push(Case {
                what,
                request,
                holds,
            });
        };
        add("as sent", [true, true], &|_| {});
        add(
            "a rotation, known by the new secret",
            [true, true],
            &|request| {
                let both = format!("{signature} v1,AAAA");
                request["headers"]["webhook-signature"] = both.into();
                request["headers"]["x-webhook-signature-previous"] = "00".repeat(32).into();
            },
        );
        add(
            "a rotation, known by the old secret",
            [true, true],
            &|request| {
                let both = format!("v1,AAAA {signature}");
                let headers = &mut request["headers"];
                headers["webhook-signature"] = both.into();
                headers["x-webhook-signature-previous"] = headers["x-webhook-signature"].take();
                headers["x-webhook-signature"] = "00".repeat(32).into();
            },
        );
        add("a changed body", [false, false], &|request| {
            request["body"] = "{}".into();
        });
        add("another secret", [false, false], &|request| {
            request["secret"] = "whsec_AAAA".into();
        });
        add("another id", [false, true], &|request| {
            request["headers"]["webhook-id"] = "another".into();
        });
        add("no signature", [false, false], &|request| {
            request["headers"] = json!({"webhook-timestamp": now.to_string()});
        });
        add("no headers", [false, false], &|request| {
            request["headers"] = json!({});
        });
        for (what, off) in [("stale", -TOO_FAR), ("from the future", TOO_FAR)] {
            let genuine = sign(vector, now + off)?;
            add(what, [false, true], &|request| {
                request["headers"]["webhook-timestamp"] = (now + off).to_string().into();
                request["headers"]["webhook-signature"] = genuine.as_str().into();
            });
        }
    }
    Ok(cases)
}

fn vectors() -> anyhow::Result<Vec<Value>> {
    let file: Value = serde_json::from_str(include_str!("../../core/tests/signatures.json"))?;
    Ok(file["vectors"].as_array().context("vectors")?.clone())
}

/// The `webhook-signature` of a vector that is sent at `timestamp`.
fn sign(vector: &Value, timestamp: i64) -> anyhow::Result<String> {
    let secret = text(&vector["secret"])?;
    let webhook = match secret.starts_with("whsec_") {
        true => Webhook::new(secret)?,
        false => Webhook::from_bytes(secret.into())?,
    };
    let body = text(&vector["body"])?.as_bytes();
    Ok(webhook.sign(text(&vector["webhook_id"])?, timestamp, body)?)
}

/// The official libraries ask the clock themselves, so their requests are of now.
fn cases_of_now() -> anyhow::Result<Vec<Case>> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    cases(|_| now)
}

/// Hands the cases to a program that answers for each whether its signatures hold: both, or the first alone.
fn hold_in(mut program: Command, cases: &[Case]) -> anyhow::Result<()> {
    let requests: Vec<&Value> = cases.iter().map(|case| &case.request).collect();
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(&serde_json::to_vec(&requests)?)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program:?}: {}", output.status);

    let answers: Vec<Vec<bool>> = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answers.len(), cases.len());
    for (case, answer) in cases.iter().zip(answers) {
        let holds = !answer.is_empty() && case.holds.starts_with(&answer);
        assert!(holds, "{program:?}, {}: {answer:?}", case.what);
    }
    Ok(())
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().context("not a text")
}

fn examples() -> PathBuf {
    root().join("examples/verify")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
