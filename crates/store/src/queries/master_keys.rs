//! Which master keys are in use, and how another one takes the place of the first.
//!
//! Whoever seals leaves the key's proof in the same transaction, under the lock of the version row.
//! The last step of a rekey takes the same lock: so a proof is there for as long as a value may be
//! sealed under its key, and a process that lacks that key is stopped at its start.

use diesel::prelude::*;
use diesel::sql_types::{Binary, Integer, Nullable};

use super::super::Conn;
use super::subscriptions::next_version;
use crate::error::StoreError;
use crate::records::{MasterKeyProof, Resealed};
use crate::schema::{master_keys, subscriptions};
use crate::sealed::{Keyring, Place, Unopened};

#[diesel::declare_sql_function]
extern "SQL" {
    fn substr(value: Nullable<Binary>, from: Integer, count: Integer) -> Nullable<Binary>;
}

pub(crate) fn proofs(conn: &mut Conn) -> Result<Vec<MasterKeyProof>, StoreError> {
    let rows: Vec<(String, Vec<u8>)> = master_keys::table
        .order(master_keys::id)
        .select((master_keys::id, master_keys::proof))
        .load(conn)?;
    let proofs = rows.into_iter();
    Ok(proofs
        .map(|(id, proof)| MasterKeyProof { id, proof })
        .collect())
}

/// Leaves the proof of the primary key, where there is none.
pub(crate) fn ensure_proof(conn: &mut Conn, keyring: &Keyring) -> Result<(), StoreError> {
    let id = keyring.primary();
    let known: i64 = master_keys::table
        .filter(master_keys::id.eq(id))
        .count()
        .get_result(conn)?;
    if known == 0 {
        let proof = keyring.seal(Place::Proof(id), b"")?;
        diesel::insert_into(master_keys::table)
            .values((master_keys::id.eq(id), master_keys::proof.eq(proof)))
            .on_conflict_do_nothing()
            .execute(conn)?;
    }
    Ok(())
}

/// Subscriptions after `after` that have something not sealed under the primary key.
macro_rules! others {
    ($keyring:expr, $after:expr) => {{
        let prefix = $keyring.prefix();
        let length = i32::try_from(prefix.len()).unwrap_or(i32::MAX);
        subscriptions::table
            .filter(subscriptions::id.gt($after))
            .filter(
                substr(subscriptions::secret, 1, length)
                    .ne(prefix.clone())
                    .or(substr(subscriptions::previous_secret, 1, length).ne(prefix.clone()))
                    .or(subscriptions::headers
                        .ne(Vec::new())
                        .and(substr(subscriptions::headers.nullable(), 1, length).ne(prefix))),
            )
    }};
}

type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

/// Seals some values anew. One that was changed meanwhile stays as it is now.
pub(crate) fn reseal(
    conn: &mut Conn,
    keyring: &Keyring,
    after: i64,
    limit: u32,
) -> Result<Resealed, StoreError> {
    conn.transaction(|conn| {
        ensure_proof(conn, keyring)?;
        let rows: Vec<Row> = others!(keyring, after)
            .order(subscriptions::id)
            .limit(i64::from(limit))
            .select((
                subscriptions::id,
                subscriptions::secret,
                subscriptions::previous_secret,
                subscriptions::headers,
            ))
            .load(conn)?;
        let mut resealed = Resealed {
            last: rows.last().map(|row| row.0),
            ..Resealed::default()
        };
        for row in rows {
            match reseal_row(conn, keyring, &row) {
                Ok(()) => resealed.subscriptions += 1,
                Err(Refusal::Unopened(why)) => resealed.unopened.push((row.0, why)),
                Err(Refusal::Store(why)) => return Err(why),
            }
        }
        Ok(resealed)
    })
}

enum Refusal {
    Unopened(Unopened),
    Store(StoreError),
}

fn reseal_row(conn: &mut Conn, keyring: &Keyring, row: &Row) -> Result<(), Refusal> {
    let (id, secret, previous, headers) = row;
    let anew = |place, old: &Vec<u8>| keyring.reseal(place, old).map_err(Refusal::Unopened);
    let failed = |why| Refusal::Store(StoreError::from(why));
    let this = || subscriptions::table.find(*id);
    if let Some(old) = secret {
        let new = anew(Place::Secret(*id), old)?;
        diesel::update(this().filter(subscriptions::secret.eq(old)))
            .set(subscriptions::secret.eq(new))
            .execute(conn)
            .map_err(failed)?;
    }
    if let Some(old) = previous {
        let new = anew(Place::Secret(*id), old)?;
        diesel::update(this().filter(subscriptions::previous_secret.eq(old)))
            .set(subscriptions::previous_secret.eq(new))
            .execute(conn)
            .map_err(failed)?;
    }
    if !headers.is_empty() {
        let new = anew(Place::Headers(*id), headers)?;
        diesel::update(this().filter(subscriptions::headers.eq(headers)))
            .set(subscriptions::headers.eq(new))
            .execute(conn)
            .map_err(failed)?;
    }
    Ok(())
}

/// Forgets the other keys, if nothing is sealed under one; answers with how many subscriptions
/// still have something that is.
pub(crate) fn forget_others(conn: &mut Conn, keyring: &Keyring) -> Result<u64, StoreError> {
    conn.transaction(|conn| {
        // Whoever seals holds this, too.
        next_version(conn)?;
        let left: i64 = others!(keyring, i64::MIN).count().get_result(conn)?;
        if left == 0 {
            diesel::delete(master_keys::table.filter(master_keys::id.ne(keyring.primary())))
                .execute(conn)?;
        }
        Ok(u64::try_from(left).unwrap_or_default())
    })
}
