//! The deliveries of an event or of a workflow: few, so that a search looks at nothing else.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use hookline_core::filter::Filter;
use hookline_core::ids::{EventKey, OrganizationId, SubscriptionId};

use crate::backend::backends;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::schema::subscriptions;
use crate::search::DeliverySpan;
use crate::search::statement::RawQuery;

/// More deliveries than this, or more events of a workflow, are not a source: a search among all rows is as fast.
const MOST: i64 = 2_000;

/// The clocks of services differ. Attempts of a delivery are made between its creation and its end, give or take this.
const SLACK_MICROS: i64 = 3_600_000_000;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

backends!(
    use backend::{Conn, Db};

    /// Whether the subscription, also a deleted one, belongs to the organization.
    pub(crate) fn owns(
        conn: &mut Conn,
        organization: &OrganizationId,
        subscription: Option<SubscriptionId>,
    ) -> Result<bool, StoreError> {
        let Some(subscription) = subscription else {
            return Ok(true);
        };
        let owned = subscriptions::table
            .filter(subscriptions::id.eq(subscription.0))
            .filter(subscriptions::organization_id.eq(organization.as_str()));
        Ok(diesel::select(diesel::dsl::exists(owned)).get_result(conn)?)
    }

    /// The deliveries of the filter's event or workflow; none where it names neither, or where there are too many.
    pub(crate) fn deliveries<S>(
        conn: &mut Conn,
        organization: &OrganizationId,
        filter: &Filter<S>,
    ) -> Result<Option<Vec<DeliverySpan>>, StoreError> {
        let mut query = RawQuery::<Db>::default();
        query.sql(format!(
            "SELECT d.id, d.created_at - {SLACK_MICROS} AS since, \
             coalesce(d.finished_at + {SLACK_MICROS}, {}) AS until FROM ",
            i64::MAX
        ));
        if let Some(event) = &filter.event {
            let key = UuidKey(EventKey::of(organization, event).0);
            query
                .sql("deliveries d WHERE d.event_key = ")
                .bind::<UuidColumn, _>(key);
        } else if filter.workflow.is_some() {
            let mut counted = RawQuery::<Db>::default();
            counted.sql("SELECT count(*) AS rows FROM ");
            write_events(&mut counted, organization, filter);
            let count: Count = counted.get_result(conn)?;
            if count.rows > MOST {
                return Ok(None);
            }
            write_events(&mut query, organization, filter);
            query.sql(" CROSS JOIN deliveries d WHERE d.event_key = e.key");
        } else {
            return Ok(None);
        }
        query
            .sql(" AND (")
            .bind::<Bool, _>(filter.subscription.is_none());
        query.sql(" OR d.subscription_id = ");
        query.bind::<BigInt, _>(filter.subscription.map_or(0, |subscription| subscription.0));
        query.sql(format!(") LIMIT {}", MOST + 1));
        let spans: Vec<DeliverySpan> = query.load(conn)?;
        let most = usize::try_from(MOST).unwrap_or(usize::MAX);
        Ok((spans.len() <= most).then_some(spans))
    }

    /// The newest events of the filter's workflow, as the table `e`.
    fn write_events<'a, S>(
        out: &mut RawQuery<'a, Db>,
        organization: &'a OrganizationId,
        filter: &'a Filter<S>,
    ) {
        out.sql("(SELECT key FROM events WHERE organization_id = ");
        out.bind::<Text, _>(organization.as_str())
            .sql(" AND workflow_id = ");
        out.bind::<Text, _>(
            filter
                .workflow
                .as_ref()
                .map_or("", |workflow| workflow.as_str()),
        );
        out.sql(format!(
            " ORDER BY received_at DESC, key DESC LIMIT {}) e",
            MOST + 1
        ));
    }
);
