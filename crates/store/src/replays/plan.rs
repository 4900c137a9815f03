//! What a replay finds: deliveries that meet its filter, or events without a delivery. Both are searched as lists are, from
//! the oldest on.

use std::convert::Infallible;
use std::time::Duration;

use diesel::sql_types::{BigInt, Bool, Text};
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::filter::Filter;
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::replay::{ReplayFilter, ReplayStatus};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::error::StoreError;
use crate::replays::{ReplayEndReason, ReplayScope, ReplayTarget};
use crate::rows::known_event_types;
use crate::search::conditions::Conditions;
use crate::search::statement::RawQuery;
use crate::search::{SearchPlan, SearchRange, SearchStep, StreamKey, StreamKeys};
use crate::subscriptions::rows::SubscriptionRow;

/// The times that bound a replay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayTimes {
    pub(crate) now: Timestamp,
    /// A replay includes nothing that is newer than itself.
    pub(crate) made: Timestamp,
    /// The retention: older events may be deleted at any time.
    pub(crate) kept: Duration,
}

pub(crate) struct ReplayPlan {
    pub(crate) range: SearchRange,
    pub(crate) source: ReplaySource,
}

pub(crate) enum ReplaySource {
    Deliveries(DeliveriesToReplay),
    Missing(MissingDeliveries),
}

impl ReplayPlan {
    /// The rows of each stream in a step that looks at about `rows`. The row of a stream for one delivery is never the last
    /// one of its share, so such a list has one step.
    pub(crate) fn share(&self, rows: i64) -> i64 {
        let keys = match &self.source {
            ReplaySource::Deliveries(deliveries) => &deliveries.keys,
            ReplaySource::Missing(missing) => &missing.keys,
        };
        match keys {
            StreamKeys::One => rows,
            StreamKeys::Names(names) => {
                let streams = i64::try_from(names.len()).unwrap_or(i64::MAX).max(1);
                (rows / streams).max(64)
            }
            StreamKeys::Deliveries(_) => 2,
        }
    }
}

pub(crate) struct DeliveriesToReplay {
    organization: OrganizationId,
    conditions: Filter<Infallible>,
    keys: StreamKeys,
    /// The event types with spaces around each; empty for all.
    types: String,
    /// The states to restart from, with spaces around each.
    ended: String,
    takes_void: bool,
    takes_pending: bool,
    now: Timestamp,
}

impl DeliveriesToReplay {
    fn of(
        scope: &ReplayScope,
        conditions: Filter<Infallible>,
        keys: StreamKeys,
        now: Timestamp,
    ) -> Self {
        let filter = &scope.filter;
        let types = filter.event_types.as_ref();
        let names = types.map(|types| types.iter().map(EventType::as_str).collect::<Vec<_>>());
        Self {
            organization: scope.organization.clone(),
            conditions,
            keys,
            types: names.map_or(String::new(), |names| format!(" {} ", names.join(" "))),
            ended: format!(" {} ", ended_states(filter).join(" ")),
            takes_void: filter.statuses.contains(&ReplayStatus::Skipped),
            takes_pending: filter.statuses.contains(&ReplayStatus::Pending),
            now,
        }
    }

    fn conditions(&self) -> Conditions<'_, Infallible> {
        Conditions {
            organization: &self.organization,
            filter: &self.conditions,
            status: None,
        }
    }
}

/// The states from which a replay restarts deliveries.
pub(crate) fn ended_states(filter: &ReplayFilter) -> Vec<&'static str> {
    let ended = filter.statuses.iter();
    let ended = ended.filter(|status| **status != ReplayStatus::Pending);
    ended.map(|status| status.as_str()).collect()
}

/// Event types and stored states. A void delivery is pending there and skipped for its owner. A service of the version
/// before writes no type.
fn streams(filter: &ReplayFilter) -> StreamKeys {
    let mut states = ended_states(filter);
    if filter.statuses.contains(&ReplayStatus::Pending)
        || filter.statuses.contains(&ReplayStatus::Skipped)
    {
        states.push("pending");
    }
    let types = EventType::ALL.into_iter();
    let types = types
        .filter(|one| wants(filter, *one))
        .map(EventType::as_str);
    let names = types.chain([""]);
    StreamKeys::Names(
        names
            .flat_map(|name| states.iter().map(move |state| (name, *state)))
            .collect(),
    )
}

fn wants(filter: &ReplayFilter, event_type: EventType) -> bool {
    let is_listed = |types: &EventTypes| types.iter().any(|listed| listed == event_type);
    let one = filter.conditions.event_type;
    filter.event_types.as_ref().is_none_or(is_listed) && one.is_none_or(|one| one == event_type)
}

pub(crate) struct MissingDeliveries {
    pub(crate) organization: OrganizationId,
    pub(crate) subscription: SubscriptionId,
    /// The subscription's, now.
    pub(crate) activation: i64,
    keys: StreamKeys,
}

impl MissingDeliveries {
    fn of(scope: &ReplayScope, row: &SubscriptionRow) -> Self {
        let known = known_event_types(&row.events);
        let types = EventType::ALL.into_iter();
        let types = types.filter(|one| known.contains(*one) && wants(&scope.filter, *one));
        Self {
            organization: scope.organization.clone(),
            subscription: SubscriptionId(row.id),
            activation: row.activation,
            keys: StreamKeys::Names(types.map(|one| (one.as_str(), "")).collect()),
        }
    }
}

backends!(
    with {
        conditions: crate::search::conditions,
        delivery_queries: crate::deliveries::sql,
        searching: crate::search,
        sources: crate::search::sources,
        subscription_queries: crate::subscriptions::sql,
    }

    use backend::{Conn, Db};
    use subscription_queries::find_row;

    impl SearchPlan<Db> for DeliveriesToReplay {
        const TABLE: &'static str = "deliveries";
        const ORDER: (&'static str, &'static str) = ("created_at", "id");

        fn keys(&self) -> &StreamKeys {
            &self.keys
        }

        fn write_source<'a>(&'a self, out: &mut RawQuery<'a, Db>, key: StreamKey) {
            let subscription = self.conditions.subscription;
            delivery_queries::write_source(out, key, &self.keys, &self.organization, subscription);
        }

        /// The statements that restart a delivery or bring it forward check its state again, under its lock.
        fn write_rest<'a>(&'a self, out: &mut RawQuery<'a, Db>) {
            conditions::of_deliveries(out, &self.conditions(), "t");
            out.sql(" AND (").bind::<Bool, _>(self.types.is_empty());
            out.sql(" OR ").bind::<Text, _>(self.types.as_str());
            out.sql(" LIKE '% ' || t.event_type || ' %'");
            // A row of a service of the version before.
            out.sql(" OR (t.event_type = '' AND EXISTS (SELECT 1 FROM events e WHERE e.key = t.event_key AND ");
            out.bind::<Text, _>(self.types.as_str());
            out.sql(" LIKE '% ' || e.event_type || ' %')))");
            out.sql(" AND t.origin = 'event' AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.id = t.subscription_id \
                     AND s.is_active AND s.deleted_at IS NULL AND (");
            out.bind::<Text, _>(self.ended.as_str());
            out.sql(" LIKE '% ' || t.state || ' %' OR (");
            out.bind::<Bool, _>(self.takes_void);
            out.sql(" AND t.state = 'pending' AND t.activation <> s.activation) OR (");
            out.bind::<Bool, _>(self.takes_pending);
            out.sql(" AND t.state = 'pending' AND t.activation = s.activation AND t.due > ");
            out.bind::<BigInt, _>(self.now.unix_micros()).sql(")))");
        }
    }

    impl SearchPlan<Db> for MissingDeliveries {
        const TABLE: &'static str = "events";
        const ORDER: (&'static str, &'static str) = ("received_at", "key");

        fn keys(&self) -> &StreamKeys {
            &self.keys
        }

        fn write_source<'a>(&'a self, out: &mut RawQuery<'a, Db>, key: StreamKey) {
            out.sql("t.organization_id = ")
                .bind::<Text, _>(self.organization.as_str());
            match key {
                StreamKey::Names(event_type, _) => {
                    out.sql(" AND t.event_type = ").bind::<Text, _>(event_type);
                }
                StreamKey::Columns | StreamKey::Delivery(_) => {
                    out.sql(" AND t.event_type = k.a");
                }
            }
        }

        /// A test event has one delivery, which is a test.
        fn write_rest<'a>(&'a self, out: &mut RawQuery<'a, Db>) {
            out.sql("NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_key = t.key AND d.subscription_id = ");
            out.bind::<BigInt, _>(self.subscription.0);
            out.sql(") AND coalesce((SELECT d.origin FROM deliveries d WHERE d.event_key = t.key \
                     ORDER BY d.subscription_id LIMIT 1), 'event') <> 'test'");
        }
    }

    /// The plan, or why nothing would be sent.
    pub(crate) fn plan(
        conn: &mut Conn,
        scope: &ReplayScope,
        times: ReplayTimes,
    ) -> Result<Result<ReplayPlan, ReplayEndReason>, StoreError> {
        let filter = &scope.filter;
        let (since, until) = (filter.conditions.since, filter.conditions.until);
        let until = until.map_or(times.made, |until| until.min(times.made));
        let subscription = match scope.target.subscription() {
            None => None,
            Some(id) => match find_row(conn, &scope.organization, id)? {
                None => return Ok(Err(ReplayEndReason::SubscriptionDeleted)),
                Some(row) if !row.is_active => {
                    return Ok(Err(ReplayEndReason::SubscriptionInactive));
                }
                Some(row) => Some(row),
            },
        };
        if let (ReplayTarget::Missing(_), Some(row)) = (scope.target, &subscription) {
            let missing = MissingDeliveries::of(scope, row);
            let kept = times.now.before(times.kept);
            let since = since.map_or(kept, |since| since.max(kept));
            return Ok(Ok(ReplayPlan {
                range: SearchRange::oldest_first(Some(since), until),
                source: ReplaySource::Missing(missing),
            }));
        }
        let conditions = Filter {
            subscription: scope.target.subscription(),
            ..filter.conditions.clone()
        };
        let keys = match sources::deliveries(conn, &scope.organization, &conditions)? {
            Some(spans) => StreamKeys::Deliveries(spans),
            None if conditions.subscription.is_some() => StreamKeys::One,
            None => streams(filter),
        };
        let found = DeliveriesToReplay::of(scope, conditions, keys, times.now);
        Ok(Ok(ReplayPlan {
            range: SearchRange::oldest_first(since, until),
            source: ReplaySource::Deliveries(found),
        }))
    }

    pub(crate) fn look(
        conn: &mut Conn,
        plan: &ReplayPlan,
        range: SearchRange,
        share: i64,
    ) -> Result<SearchStep, StoreError> {
        match &plan.source {
            ReplaySource::Deliveries(deliveries) => searching::step(conn, deliveries, range, share),
            ReplaySource::Missing(missing) => searching::step(conn, missing, range, share),
        }
    }
);
