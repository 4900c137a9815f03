//! Queries of organizations and API keys.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use hookline_core::access::Access;
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::timestamp::Timestamp;

use crate::api_keys::{KeyHash, KeyInfo, NewKey};
use crate::backend::{ROWS, backends};
use crate::error::StoreError;
use crate::rows::{organization, read_scopes, scopes_text};
use crate::schema::{api_key_organizations, api_keys, organizations};

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_keys)]
struct KeyRow {
    id: i64,
    name: String,
    scopes: String,
    organization_id: String,
    created_at: i64,
    revoked_at: Option<i64>,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
}

backends!(
    use backend::Conn;

    /// False when the organization exists.
    pub(crate) fn create_organization(
        conn: &mut Conn,
        id: &OrganizationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let inserted = diesel::insert_into(organizations::table)
            .values((
                organizations::id.eq(id.as_str()),
                organizations::created_at.eq(now.unix_micros()),
            ))
            .on_conflict_do_nothing()
            .execute(conn)?;
        Ok(inserted == 1)
    }

    pub(crate) fn organizations(
        conn: &mut Conn,
    ) -> Result<Vec<(OrganizationId, Timestamp)>, StoreError> {
        let rows: Vec<(String, i64)> = organizations::table
            .order(organizations::id)
            .select((organizations::id, organizations::created_at))
            .load(conn)?;
        rows.into_iter()
            .map(|(id, at)| Ok((organization(&id)?, Timestamp::from_unix_micros(at))))
            .collect()
    }

    /// None when one of its organizations does not exist.
    pub(crate) fn create_key(
        conn: &mut Conn,
        key: &NewKey,
        now: Timestamp,
    ) -> Result<Option<KeyId>, StoreError> {
        conn.transaction(|conn| {
            let mut members: Vec<&str> = key
                .organizations
                .iter()
                .chain([&key.default_organization])
                .map(OrganizationId::as_str)
                .collect();
            members.sort_unstable();
            members.dedup();
            let known: i64 = organizations::table
                .filter(organizations::id.eq_any(&members))
                .count()
                .get_result(conn)?;
            if usize::try_from(known).ok() != Some(members.len()) {
                return Ok(None);
            }
            let id: i64 = diesel::insert_into(api_keys::table)
                .values((
                    api_keys::hash.eq(key.hash.0.as_slice()),
                    api_keys::name.eq(&key.name),
                    api_keys::scopes.eq(scopes_text(&key.scopes)),
                    api_keys::organization_id.eq(key.default_organization.as_str()),
                    api_keys::created_at.eq(now.unix_micros()),
                    api_keys::expires_at.eq(key.expires_at.map(Timestamp::unix_micros)),
                ))
                .returning(api_keys::id)
                .get_result(conn)?;
            for member in members {
                diesel::insert_into(api_key_organizations::table)
                    .values((
                        api_key_organizations::key_id.eq(id),
                        api_key_organizations::organization_id.eq(member),
                    ))
                    .execute(conn)?;
            }
            Ok(Some(KeyId(id)))
        })
    }

    pub(crate) fn keys(conn: &mut Conn) -> Result<Vec<KeyInfo>, StoreError> {
        let rows: Vec<KeyRow> = api_keys::table
            .order(api_keys::id)
            .select(KeyRow::as_select())
            .load(conn)?;
        let members: Vec<(i64, String)> = api_key_organizations::table
            .order(api_key_organizations::organization_id)
            .select((
                api_key_organizations::key_id,
                api_key_organizations::organization_id,
            ))
            .load(conn)?;
        let mut further: HashMap<i64, Vec<String>> = HashMap::new();
        for (key, member) in members {
            further.entry(key).or_default().push(member);
        }
        rows.into_iter()
            .map(|row| {
                let further = further.remove(&row.id).unwrap_or_default();
                let further = further.iter().filter(|id| **id != row.organization_id);
                let all = [&row.organization_id].into_iter().chain(further);
                Ok(KeyInfo {
                    id: KeyId(row.id),
                    name: row.name,
                    scopes: read_scopes(&row.scopes)?,
                    organizations: all.map(|id| organization(id)).collect::<Result<_, _>>()?,
                    created_at: Timestamp::from_unix_micros(row.created_at),
                    revoked_at: row.revoked_at.map(Timestamp::from_unix_micros),
                    expires_at: row.expires_at.map(Timestamp::from_unix_micros),
                    last_used_at: row.last_used_at.map(Timestamp::from_unix_micros),
                })
            })
            .collect()
    }

    /// False when the key does not exist or is revoked already.
    pub(crate) fn revoke_key(
        conn: &mut Conn,
        id: KeyId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let revoked = diesel::update(api_keys::table)
            .filter(api_keys::id.eq(id.0).and(api_keys::revoked_at.is_null()))
            .set(api_keys::revoked_at.eq(now.unix_micros()))
            .execute(conn)?;
        Ok(revoked == 1)
    }

    /// An unknown, revoked or expired key takes the same one statement, so the time does not tell which it is. The index
    /// lookup is by a hash, so its time tells nothing of a key. The decision compares in constant time.
    pub(crate) fn access_of(
        conn: &mut Conn,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Access>, StoreError> {
        let valid = api_keys::expires_at
            .is_null()
            .or(api_keys::expires_at.gt(now.unix_micros()));
        let key: Option<(i64, Vec<u8>, String, String)> = api_keys::table
            .filter(api_keys::hash.eq(hash.0.as_slice()))
            .filter(api_keys::revoked_at.is_null())
            .filter(valid)
            .select((
                api_keys::id,
                api_keys::hash,
                api_keys::scopes,
                api_keys::organization_id,
            ))
            // A hash is unique, and a LIMIT would make SQLite parse the statement again each time.
            .get_result(conn)
            .optional()?;
        let Some((id, _, scopes, default_organization)) = key.filter(|key| hash.is(&key.1)) else {
            return Ok(None);
        };
        let members: Vec<String> = api_key_organizations::table
            .filter(api_key_organizations::key_id.eq(id))
            .select(api_key_organizations::organization_id)
            .load(conn)?;
        Ok(Some(Access {
            key: KeyId(id),
            default_organization: organization(&default_organization)?,
            organizations: members
                .iter()
                .map(|id| organization(id))
                .collect::<Result<_, _>>()?,
            scopes: read_scopes(&scopes)?,
        }))
    }

    /// Those that are neither revoked nor expired.
    pub(crate) fn valid(
        conn: &mut Conn,
        keys: &[KeyId],
        now: Timestamp,
    ) -> Result<HashSet<KeyId>, StoreError> {
        let mut valid = HashSet::with_capacity(keys.len());
        for chunk in keys.chunks(ROWS) {
            let ids = chunk.iter().map(|key| key.0);
            let not_over = api_keys::expires_at
                .is_null()
                .or(api_keys::expires_at.gt(now.unix_micros()));
            let found: Vec<i64> = api_keys::table
                .filter(api_keys::id.eq_any(ids))
                .filter(api_keys::revoked_at.is_null())
                .filter(not_over)
                .select(api_keys::id)
                .load(conn)?;
            valid.extend(found.into_iter().map(KeyId));
        }
        Ok(valid)
    }

    /// Writes at most once a minute.
    pub(crate) fn note_key_use(
        conn: &mut Conn,
        id: KeyId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = now.before(Duration::from_secs(60)).unix_micros();
        diesel::update(api_keys::table.find(id.0))
            .filter(
                api_keys::last_used_at
                    .is_null()
                    .or(api_keys::last_used_at.le(before)),
            )
            .set(api_keys::last_used_at.eq(now.unix_micros()))
            .execute(conn)?;
        Ok(())
    }
);
