//! The tables. `event_queue`, `dead_letters` and `stream_position` exist in SQLite alone. `write_probe` exists in PostgreSQL alone, and the SQL
//! of the write probe names it.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! {
    organizations (id) {
        id -> Text,
        created_at -> BigInt,
    }
}

table! {
    api_keys (id) {
        id -> BigInt,
        hash -> Binary,
        name -> Text,
        scopes -> Text,
        organization_id -> Text,
        created_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
        expires_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
    }
}

table! {
    api_key_organizations (key_id, organization_id) {
        key_id -> BigInt,
        organization_id -> Text,
    }
}

table! {
    subscription_version (id) {
        id -> Integer,
        value -> BigInt,
    }
}

table! {
    subscription_marks (version) {
        version -> BigInt,
        mark -> BigInt,
    }
}

table! {
    retention_clock (id) {
        id -> Integer,
        at -> BigInt,
        seen -> BigInt,
    }
}

table! {
    master_keys (id) {
        id -> Text,
        proof -> Binary,
    }
}

table! {
    subscriptions (id) {
        id -> BigInt,
        organization_id -> Text,
        name -> Text,
        url -> Text,
        events -> Text,
        description -> Text,
        metadata -> Text,
        secret -> Nullable<Binary>,
        previous_secret -> Nullable<Binary>,
        previous_secret_until -> Nullable<BigInt>,
        headers -> Binary,
        header_names -> Text,
        is_active -> Bool,
        disabled_reason -> Nullable<Text>,
        activation -> BigInt,
        version -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
        deleted_at -> Nullable<BigInt>,
        failures_from -> BigInt,
    }
}

table! {
    subscription_counts (organization_id) {
        organization_id -> Text,
        count -> BigInt,
    }
}

table! {
    failing_subscriptions (subscription_id) {
        subscription_id -> BigInt,
        since -> BigInt,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    operational_events (id) {
        id -> UuidColumn,
        organization_id -> Text,
        subscription_id -> BigInt,
        name -> Text,
        reason -> Text,
        at -> BigInt,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    events (key) {
        key -> UuidColumn,
        organization_id -> Text,
        event_id -> Text,
        event_type -> Text,
        body -> Binary,
        traceparent -> Nullable<Text>,
        received_at -> BigInt,
        workflow_id -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    deliveries (id) {
        id -> UuidColumn,
        organization_id -> Text,
        subscription_id -> BigInt,
        event_key -> UuidColumn,
        origin -> Text,
        activation -> BigInt,
        generation -> Integer,
        attempts -> Integer,
        state -> Text,
        due -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
        exhausted_reason -> Nullable<Text>,
        created_at -> BigInt,
        attempts_before -> Integer,
        started_by -> Text,
        backlog -> Nullable<SmallInt>,
        partition -> Integer,
        event_type -> Text,
        response_status -> Nullable<Integer>,
        error_kind -> Nullable<Text>,
        duration_ms -> Nullable<BigInt>,
    }
}

table! {
    circuit_breakers (subscription_id) {
        subscription_id -> BigInt,
        opened_at -> BigInt,
        wait_seconds -> Integer,
    }
}

table! {
    partitioning (id) {
        id -> Integer,
        count -> Integer,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    partitions (partition) {
        partition -> Integer,
        owner -> Nullable<UuidColumn>,
        epoch -> BigInt,
        deaths -> Integer,
        died_at -> Nullable<BigInt>,
        note -> Text,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    dispatchers (id) {
        id -> UuidColumn,
        heartbeat -> BigInt,
        draining -> Bool,
        can_deliver -> Bool,
        seen_at -> BigInt,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    replays (id) {
        id -> UuidColumn,
        organization_id -> Text,
        subscription_id -> BigInt,
        wanted -> Text,
        event_types -> Nullable<Text>,
        since -> Nullable<BigInt>,
        until -> Nullable<BigInt>,
        expected -> BigInt,
        replayed -> BigInt,
        cursor_at -> Nullable<BigInt>,
        cursor_id -> Nullable<UuidColumn>,
        lease -> BigInt,
        next_step_at -> Nullable<BigInt>,
        state -> Text,
        reason -> Nullable<Text>,
        created_at -> BigInt,
        finished_at -> Nullable<BigInt>,
        kind -> Text,
        filter -> Nullable<Text>,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    attempts (created_at, id) {
        id -> UuidColumn,
        delivery_id -> UuidColumn,
        organization_id -> Text,
        subscription_id -> BigInt,
        event_key -> UuidColumn,
        event_type -> Text,
        attempt -> Integer,
        trigger -> Text,
        status -> Text,
        url -> Text,
        response_status -> Nullable<Integer>,
        response_body -> Nullable<Text>,
        error_kind -> Nullable<Text>,
        error_message -> Nullable<Text>,
        duration_ms -> BigInt,
        created_at -> BigInt,
        next_attempt_at -> Nullable<BigInt>,
        request_headers -> Nullable<Text>,
        response_headers -> Nullable<Text>,
        remote_address -> Nullable<Text>,
        timings -> Nullable<Text>,
        recorded_in -> Nullable<BigInt>,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    stream_changes (organization_id, recorded_in, id) {
        organization_id -> Text,
        recorded_in -> BigInt,
        id -> UuidColumn,
        subscription_id -> BigInt,
        kind -> Text,
        reason -> Nullable<Text>,
        delivery_id -> Nullable<UuidColumn>,
        event_key -> Nullable<UuidColumn>,
        event_type -> Nullable<Text>,
        attempts -> Nullable<Integer>,
        at -> BigInt,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    stream_removals (organization_id, day, source) {
        organization_id -> Text,
        day -> BigInt,
        source -> Text,
        count -> BigInt,
        last_recorded_in -> BigInt,
        last_id -> UuidColumn,
    }
}

table! {
    stream_position (id) {
        id -> Integer,
        value -> BigInt,
    }
}

table! {
    attempt_counts (organization_id, subscription_id, event_type, status, day, shard) {
        organization_id -> Text,
        subscription_id -> BigInt,
        event_type -> Text,
        status -> Text,
        day -> BigInt,
        shard -> Integer,
        count -> BigInt,
        last_at -> BigInt,
    }
}

table! {
    attempt_stats (organization_id, subscription_id, width, at, event_type, cell, shard) {
        organization_id -> Text,
        subscription_id -> BigInt,
        width -> Integer,
        at -> BigInt,
        event_type -> Text,
        cell -> Integer,
        shard -> Integer,
        count -> BigInt,
    }
}

table! {
    storage_usage (organization_id, shard) {
        organization_id -> Text,
        shard -> Integer,
        bytes -> BigInt,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    crash_counts (key) {
        key -> UuidColumn,
        crashes -> Integer,
        counted_at -> BigInt,
    }
}

table! {
    use diesel::sql_types::*;
    use crate::columns::UuidColumn;

    dead_deliveries (delivery_id) {
        delivery_id -> UuidColumn,
        reason -> Text,
        at -> BigInt,
    }
}

table! {
    idempotent_requests (id) {
        id -> Binary,
        fingerprint -> Binary,
        claim -> BigInt,
        claimed_until -> BigInt,
        answer -> Nullable<Text>,
        sealed_answer -> Nullable<Binary>,
        created_at -> BigInt,
    }
}

table! {
    event_queue (id) {
        id -> BigInt,
        content_type -> Nullable<Text>,
        traceparent -> Nullable<Text>,
        body -> Binary,
        admitted_at -> Nullable<BigInt>,
        visible_at -> BigInt,
        receive_count -> Integer,
    }
}

table! {
    dead_letters (id) {
        id -> BigInt,
        queue -> Text,
        reason -> Text,
        content_type -> Nullable<Text>,
        traceparent -> Nullable<Text>,
        body -> Binary,
        created_at -> BigInt,
    }
}

/// The tables of both backends, for which a service needs SELECT, INSERT, UPDATE and DELETE.
pub(crate) const TABLES: [&str; 27] = [
    "organizations",
    "api_keys",
    "api_key_organizations",
    "subscription_version",
    "subscription_marks",
    "retention_clock",
    "master_keys",
    "subscriptions",
    "subscription_counts",
    "failing_subscriptions",
    "operational_events",
    "events",
    "deliveries",
    "partitioning",
    "partitions",
    "dispatchers",
    "circuit_breakers",
    "replays",
    "attempts",
    "attempt_counts",
    "attempt_stats",
    "stream_changes",
    "stream_removals",
    "storage_usage",
    "crash_counts",
    "dead_deliveries",
    "idempotent_requests",
];

joinable!(deliveries -> subscriptions (subscription_id));
joinable!(deliveries -> events (event_key));
joinable!(attempts -> events (event_key));
allow_tables_to_appear_in_same_query!(
    deliveries,
    subscriptions,
    events,
    attempts,
    circuit_breakers
);
allow_tables_to_appear_in_same_query!(failing_subscriptions, subscriptions);
