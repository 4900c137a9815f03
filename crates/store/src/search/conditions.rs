//! The conditions of a filter in SQL, over a table of attempts or deliveries. Every condition is written, also one that is
//! not set, so there are few statements to prepare.

use diesel::sql_types::{BigInt, Bool, Integer, Text};
use hookline_core::filter::Filter;
use hookline_core::ids::{EventKey, OrganizationId};

use crate::backend::backends;
use crate::columns::{UuidColumn, UuidKey};
use crate::search::statement::RawQuery;

/// A filter of an organization's rows.
pub(crate) struct Conditions<'a, S> {
    pub(crate) organization: &'a OrganizationId,
    pub(crate) filter: &'a Filter<S>,
    /// The name of the filter's status in the store.
    pub(crate) status: Option<&'static str>,
}

impl<S> Conditions<'_, S> {
    pub(crate) fn event(&self) -> UuidKey {
        let event = self.filter.event.as_ref();
        event.map_or(UuidKey::default(), |event| {
            UuidKey(EventKey::of(self.organization, event).0)
        })
    }

    /// The first and the last response code.
    fn codes(&self) -> (i32, i32) {
        let codes = self.filter.response_status;
        codes.map_or((0, 0), |codes| (codes.first().into(), codes.last().into()))
    }

    /// Whether it has a condition that only deliveries meet.
    pub(crate) fn are_about_deliveries(&self) -> bool {
        let filter = self.filter;
        filter.status.is_some()
            || filter.subscription.is_some()
            || filter.response_status.is_some()
            || filter.error_kind.is_some()
            || filter.attempt.is_some()
            || filter.min_duration_ms.is_some()
    }
}

/// The status of the delivery `{t}` for its owner, as `status_of` decides it.
const DELIVERY_STATUS: &str = "CASE WHEN {t}.state <> 'pending' THEN {t}.state ELSE (
    SELECT CASE WHEN s.deleted_at IS NOT NULL THEN 'cancelled'
                WHEN {t}.origin = 'test' OR (s.is_active AND s.activation = {t}.activation) THEN 'pending'
                ELSE 'skipped' END
      FROM subscriptions s WHERE s.id = {t}.subscription_id) END = ";

backends!(
    use backend::Db;

    /// Begins a condition on a column of `table`, which holds anyway if it is not set.
    fn begin(
        out: &mut RawQuery<'_, Db>,
        is_set: bool,
        table: &'static str,
        condition: &'static str,
    ) {
        out.sql(" AND (").bind::<Bool, _>(!is_set);
        out.sql(format!(" OR {}", condition.replace("{t}", table)));
    }

    /// The conditions of attempts in the table `t`.
    pub(crate) fn of_attempts<'a, S>(out: &mut RawQuery<'a, Db>, conditions: &Conditions<'a, S>) {
        let filter = conditions.filter;
        out.sql("TRUE");
        begin(out, conditions.status.is_some(), "t", "{t}.status = ");
        out.bind::<Text, _>(conditions.status.unwrap_or_default());
        out.sql(")");
        begin(out, filter.event_type.is_some(), "t", "{t}.event_type = ");
        out.bind::<Text, _>(
            filter
                .event_type
                .map_or("", |event_type| event_type.as_str()),
        );
        out.sql(")");
        begin(out, filter.attempt.is_some(), "t", "{t}.attempt = ");
        out.bind::<Integer, _>(
            i32::try_from(filter.attempt.unwrap_or_default()).unwrap_or(i32::MAX),
        );
        out.sql(")");
        of_results(out, conditions, "t");
        of_events(out, conditions, "t");
    }

    /// The conditions of events in the table `t` themselves.
    pub(crate) fn of_events_themselves<'a, S>(
        out: &mut RawQuery<'a, Db>,
        conditions: &Conditions<'a, S>,
    ) {
        let filter = conditions.filter;
        out.sql("TRUE");
        begin(out, filter.event_type.is_some(), "t", "{t}.event_type = ");
        out.bind::<Text, _>(
            filter
                .event_type
                .map_or("", |event_type| event_type.as_str()),
        );
        out.sql(")");
        begin(out, filter.workflow.is_some(), "t", "{t}.workflow_id = ");
        out.bind::<Text, _>(
            filter
                .workflow
                .as_ref()
                .map_or("", |workflow| workflow.as_str()),
        );
        out.sql(")");
    }

    /// The conditions of deliveries in `table`.
    pub(crate) fn of_deliveries<'a, S>(
        out: &mut RawQuery<'a, Db>,
        conditions: &Conditions<'a, S>,
        table: &'static str,
    ) {
        let filter = conditions.filter;
        out.sql("TRUE");
        begin(out, conditions.status.is_some(), table, DELIVERY_STATUS);
        out.bind::<Text, _>(conditions.status.unwrap_or_default());
        out.sql(")");
        let name = filter
            .event_type
            .map_or("", |event_type| event_type.as_str());
        begin(out, filter.event_type.is_some(), table, "{t}.event_type = ");
        out.bind::<Text, _>(name);
        // A row of a service of the version before.
        let from_event = " OR ({t}.event_type = '' AND EXISTS (
            SELECT 1 FROM events e WHERE e.key = {t}.event_key AND e.event_type = ";
        out.sql(from_event.replace("{t}", table))
            .bind::<Text, _>(name);
        out.sql(")))");
        begin(out, filter.attempt.is_some(), table, "{t}.attempts = ");
        out.bind::<Integer, _>(
            i32::try_from(filter.attempt.unwrap_or_default()).unwrap_or(i32::MAX),
        );
        out.sql(")");
        of_results(out, conditions, table);
        of_events(out, conditions, table);
    }

    fn of_results<'a, S>(
        out: &mut RawQuery<'a, Db>,
        conditions: &Conditions<'a, S>,
        table: &'static str,
    ) {
        let filter = conditions.filter;
        begin(
            out,
            filter.subscription.is_some(),
            table,
            "{t}.subscription_id = ",
        );
        out.bind::<BigInt, _>(filter.subscription.map_or(0, |subscription| subscription.0));
        out.sql(")");
        let (first, last) = conditions.codes();
        begin(
            out,
            filter.response_status.is_some(),
            table,
            "{t}.response_status BETWEEN ",
        );
        out.bind::<Integer, _>(first)
            .sql(" AND ")
            .bind::<Integer, _>(last);
        out.sql(")");
        begin(out, filter.error_kind.is_some(), table, "{t}.error_kind = ");
        out.bind::<Text, _>(filter.error_kind.map_or("", |kind| kind.as_str()));
        out.sql(")");
        begin(
            out,
            filter.min_duration_ms.is_some(),
            table,
            "{t}.duration_ms >= ",
        );
        out.bind::<BigInt, _>(i64::from(filter.min_duration_ms.unwrap_or_default()));
        out.sql(")");
    }

    fn of_events<'a, S>(
        out: &mut RawQuery<'a, Db>,
        conditions: &Conditions<'a, S>,
        table: &'static str,
    ) {
        let filter = conditions.filter;
        begin(out, filter.event.is_some(), table, "{t}.event_key = ");
        out.bind::<UuidColumn, _>(conditions.event());
        out.sql(")");
        let of_workflow =
            "EXISTS (SELECT 1 FROM events e WHERE e.key = {t}.event_key AND e.workflow_id = ";
        begin(out, filter.workflow.is_some(), table, of_workflow);
        out.bind::<Text, _>(
            filter
                .workflow
                .as_ref()
                .map_or("", |workflow| workflow.as_str()),
        );
        out.sql("))");
    }
);
