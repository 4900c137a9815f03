//! Organizations and the keys that reach them.

use diesel::prelude::*;
use hookline_core::access::Access;
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use crate::error::StoreError;
use crate::records::{KeyHash, KeyInfo, NewKey};
use crate::rows::{organization, read_scopes, scopes_text};
use crate::schema::{api_key_organizations, api_keys, organizations};

/// Makes an organization; false when there is one of this id.
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

/// Makes a key; none when one of its organizations does not exist.
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
    type Row = (i64, String, String, String, i64, Option<i64>);
    let rows: Vec<Row> = api_keys::table
        .order(api_keys::id)
        .select((
            api_keys::id,
            api_keys::name,
            api_keys::scopes,
            api_keys::organization_id,
            api_keys::created_at,
            api_keys::revoked_at,
        ))
        .load(conn)?;
    rows.into_iter()
        .map(
            |(id, name, scopes, default_organization, created_at, revoked_at)| {
                Ok(KeyInfo {
                    id: KeyId(id),
                    name,
                    scopes: read_scopes(&scopes)?,
                    default_organization: organization(&default_organization)?,
                    created_at: Timestamp::from_unix_micros(created_at),
                    revoked_at: revoked_at.map(Timestamp::from_unix_micros),
                })
            },
        )
        .collect()
}

/// Ends a key; false when there is none, or it was ended before.
pub(crate) fn revoke_key(conn: &mut Conn, id: KeyId, now: Timestamp) -> Result<bool, StoreError> {
    let revoked = diesel::update(api_keys::table)
        .filter(api_keys::id.eq(id.0).and(api_keys::revoked_at.is_null()))
        .set(api_keys::revoked_at.eq(now.unix_micros()))
        .execute(conn)?;
    Ok(revoked == 1)
}

pub(crate) fn access_of(conn: &mut Conn, hash: KeyHash) -> Result<Option<Access>, StoreError> {
    let key: Option<(i64, String, String)> = api_keys::table
        .filter(api_keys::hash.eq(hash.0.as_slice()))
        .filter(api_keys::revoked_at.is_null())
        .select((api_keys::id, api_keys::scopes, api_keys::organization_id))
        .first(conn)
        .optional()?;
    let Some((id, scopes, default_organization)) = key else {
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
