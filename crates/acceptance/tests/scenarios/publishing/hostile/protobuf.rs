//! Hostile events in Protobuf.

use hookline_core::wire::v1::WorkflowEvent;
use hookline_testkit::tenant::Tenant;
use prost::Message as _;
use uuid::Uuid;

use super::super::typed;
use super::{Case, ExpectedOutcome, HOSTILE};

/// Field 99, which there is none: a number, and a group that begins.
const UNKNOWN: [u8; 3] = [0x98, 0x06, 0x01];
const GROUP: [u8; 2] = [0x9b, 0x06];

fn event(tenant: &Tenant<'_>, data: &[u8]) -> WorkflowEvent {
    WorkflowEvent {
        event_id: Uuid::new_v4().to_string(),
        event_type: HOSTILE.to_owned(),
        workflow_id: "w".to_owned(),
        organization_id: tenant.organization.clone(),
        timestamp: Some(prost_types::Timestamp {
            seconds: 1_766_313_000,
            nanos: 0,
        }),
        data_json: data.to_vec().into(),
    }
}

fn case(description: &str, body: Vec<u8>, outcome: ExpectedOutcome) -> Case {
    Case::of(description, typed("application/x-protobuf"), body, outcome)
}

pub(super) fn cases(tenant: &Tenant<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (description, more) in [
        ("an unknown field", UNKNOWN.to_vec()),
        ("many unknown fields", UNKNOWN.repeat(10_000)),
    ] {
        let data = format!("{{\"told\":\"{description}\"}}");
        let body = [event(tenant, data.as_bytes()).encode_to_vec(), more].concat();
        let end = format!("\"data\":{data}}}");
        cases.push(case(
            description,
            body,
            ExpectedOutcome::Delivered(end.into()),
        ));
    }
    let good = event(tenant, b"{}").encode_to_vec();
    for (description, more) in [
        ("a varint that breaks off", vec![0x98, 0x06, 0xff]),
        (
            "a varint of 11 bytes",
            [&[0x98, 0x06][..], &[0xff; 11]].concat(),
        ),
        (
            "a length beyond the end",
            vec![0x0a, 0xff, 0xff, 0xff, 0x7f],
        ),
        (
            "a length of 2^64",
            [&[0x0a][..], &[0xff; 9], &[0x01]].concat(),
        ),
        ("groups without an end", GROUP.repeat(10_000)),
        ("field 0", vec![0x00, 0x01]),
        ("a name that is no UTF-8", vec![0x0a, 0x01, 0xff]),
        ("a name that is a number", vec![0x08, 0x01]),
    ] {
        let body = [good.clone(), more].concat();
        let reason = "is not valid Protobuf: ".to_owned();
        cases.push(case(description, body, ExpectedOutcome::Rejected(reason)));
    }
    for (description, data) in [
        ("data that is null", &b"null"[..]),
        ("data that is an array", b"[1]"),
        ("no data", b""),
        ("data that is no UTF-8", b"{\"a\":\"\xff\"}"),
        ("data with something behind", b"{}{}"),
    ] {
        let body = event(tenant, data).encode_to_vec();
        cases.push(case(
            description,
            body,
            ExpectedOutcome::Rejected("data".to_owned()),
        ));
    }
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, i32::MIN), (0, i32::MAX)] {
        let mut event = event(tenant, b"{}");
        event.timestamp = Some(prost_types::Timestamp { seconds, nanos });
        let description = format!("{seconds} s and {nanos} ns");
        let reason = "timestamp: ".to_owned();
        cases.push(case(
            &description,
            event.encode_to_vec(),
            ExpectedOutcome::Rejected(reason),
        ));
    }
    let large = event(
        tenant,
        format!("{{\"a\":\"{}\"}}", "x".repeat(256 * 1024)).as_bytes(),
    );
    let reason = "must have at most 262144 bytes".to_owned();
    cases.push(case(
        "too large",
        large.encode_to_vec(),
        ExpectedOutcome::Rejected(reason),
    ));
    cases
}
