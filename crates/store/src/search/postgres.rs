//! A step is one statement: the keys are a table, and each is joined with its stream.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use crate::backend::postgres::Conn;
use crate::columns::UuidColumn;
use crate::error::StoreError;
use crate::search::range::postgres::write as write_range;
use crate::search::statement::RawQuery;
use crate::search::{SearchPlan, SearchRange, SearchStep, StreamKey, StreamKeys};

pub(crate) fn step<P: SearchPlan<Pg>>(
    conn: &mut Conn,
    plan: &P,
    range: SearchRange,
    share: i64,
) -> Result<SearchStep, StoreError> {
    let mut query = RawQuery::<Pg>::default();
    query.sql("SELECT c.* FROM ");
    match plan.keys() {
        StreamKeys::One => {
            query.sql("(VALUES (0)) AS k (none)");
        }
        StreamKeys::Names(names) => {
            let (first, second): (Vec<_>, Vec<_>) = names.iter().copied().unzip();
            query.sql("unnest(").bind::<Array<Text>, _>(first);
            query.sql(", ").bind::<Array<Text>, _>(second);
            query.sql(") AS k (a, b)");
        }
        StreamKeys::Deliveries(spans) => {
            let ids: Vec<_> = spans.iter().map(|span| span.id).collect();
            let since: Vec<_> = spans.iter().map(|span| span.since).collect();
            let until: Vec<_> = spans.iter().map(|span| span.until).collect();
            query.sql("unnest(").bind::<Array<UuidColumn>, _>(ids);
            query.sql(", ").bind::<Array<BigInt>, _>(since);
            query.sql(", ").bind::<Array<BigInt>, _>(until);
            query.sql(") AS k (id, since, until)");
        }
    }
    let (at, id) = P::ORDER;
    query.sql(format!(
        " CROSS JOIN LATERAL (SELECT r.*, row_number() OVER () AS number FROM (SELECT t.{at} AS at, t.{id} AS id, \
         0::bigint AS place, coalesce("
    ));
    plan.write_rest(&mut query);
    query.sql(format!(", FALSE) AS matches FROM {} t WHERE ", P::TABLE));
    plan.write_source(&mut query, StreamKey::Columns);
    write_range(&mut query, range, P::ORDER);
    query.sql(format!(
        " LIMIT {share}) r) c WHERE c.matches OR c.number = {share}"
    ));
    Ok(SearchStep::merge(query.load(conn)?, share, range.order))
}
