//! A step is a prepared statement for each stream.

use diesel::prelude::*;
use diesel::sqlite::Sqlite;

use crate::backend::sqlite::Conn;
use crate::error::StoreError;
use crate::search::range::sqlite::write as write_range;
use crate::search::statement::RawQuery;
use crate::search::{Candidate, SearchPlan, SearchRange, SearchStep, StreamKey, StreamKeys};

pub(crate) fn step<P: SearchPlan<Sqlite>>(
    conn: &mut Conn,
    plan: &P,
    range: SearchRange,
    share: i64,
) -> Result<SearchStep, StoreError> {
    let keys: Vec<StreamKey> = match plan.keys() {
        StreamKeys::One => vec![StreamKey::Columns],
        StreamKeys::Names(names) => names.iter().map(|(a, b)| StreamKey::Names(a, b)).collect(),
        StreamKeys::Deliveries(spans) => spans.iter().copied().map(StreamKey::Delivery).collect(),
    };
    let mut found: Vec<Candidate> = Vec::new();
    for key in keys {
        found.extend(stream(conn, plan, key, range, share)?);
    }
    Ok(SearchStep::merge(found, share, range.order))
}

fn stream<P: SearchPlan<Sqlite>>(
    conn: &mut Conn,
    plan: &P,
    key: StreamKey,
    range: SearchRange,
    share: i64,
) -> Result<Vec<Candidate>, StoreError> {
    let (at, id) = P::ORDER;
    let mut query = RawQuery::<Sqlite>::default();
    query.sql(format!(
        "SELECT * FROM (SELECT r.*, row_number() OVER () AS number FROM (SELECT t.{at} AS at, t.{id} AS id, \
         t.rowid AS place, coalesce("
    ));
    plan.write_rest(&mut query);
    query.sql(format!(", FALSE) AS matches FROM {} t WHERE ", P::TABLE));
    plan.write_source(&mut query, key);
    write_range(&mut query, range, P::ORDER);
    query.sql(format!(
        " LIMIT {share}) r) WHERE matches OR number = {share}"
    ));
    Ok(query.load(conn)?)
}
