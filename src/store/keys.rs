//! API keys: made and revoked as `ledger_owner`, read by every role.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::pool::Pool;
use super::{Database, InStatement, StoreError};
use crate::keys::{ApiKey, KeyId, KeyInForce, KeyName, Scope, Scopes};

/// What is told of a key: everything but its secret's hash.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// What it is found by.
    pub key_id: KeyId,
    /// Its holder.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The database login that made it.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The database login that revoked it.
    pub revoked_by: Option<String>,
}

/// Records a key, and that it was made, in one transaction.
pub async fn create_key(
    owner: &Database,
    key: &ApiKey,
    name: &KeyName,
    scopes: Scopes,
) -> Result<(), StoreError> {
    const STATEMENT: &str = "create_key";
    let mut connection = owner.connect().await?;
    sqlx::query("/* create_key */ SELECT public.ledger_create_key($1, $2, $3, $4)")
        .bind(key.id().to_string())
        .bind(name.as_str())
        .bind(scopes.names())
        .bind(hex::encode(key.digest()))
        .execute(&mut connection)
        .await
        .in_statement(STATEMENT)
        .map(drop)
}

/// How a revocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The key is of no use any more.
    Done,
    /// There was nothing to revoke; why, for people.
    Refused(String),
}

/// Revokes a key, and records that, in one transaction.
pub async fn revoke_key(owner: &Database, id: KeyId) -> Result<Revocation, StoreError> {
    /// `no_data_found`, `object_not_in_prerequisite_state`.
    const NOTHING_TO_REVOKE: [&str; 2] = ["P0002", "55000"];
    let mut connection = owner.connect().await?;
    let revoked = sqlx::query("/* revoke_key */ SELECT public.ledger_revoke_key($1)")
        .bind(id.to_string())
        .execute(&mut connection)
        .await
        .in_statement("revoke_key");
    match revoked {
        Ok(_) => Ok(Revocation::Done),
        Err(StoreError::Refused { sqlstate, message, .. })
            if NOTHING_TO_REVOKE.contains(&sqlstate.as_str()) =>
        {
            Ok(Revocation::Refused(message))
        }
        Err(error) => Err(error),
    }
}

/// Every key that was ever made, the oldest first.
pub async fn list_keys(database: &Database) -> Result<Vec<KeyRecord>, StoreError> {
    const STATEMENT: &str = "list_keys";
    let mut connection = database.connect().await?;
    let rows = sqlx::query(
        "/* list_keys */
         SELECT key_id, name, scopes, created_at, created_by::text, revoked_at, revoked_by::text
         FROM public.api_keys ORDER BY created_at, key_id",
    )
    .fetch_all(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    let record = |row: &PgRow| {
        Ok(KeyRecord {
            key_id: key_id(row, STATEMENT)?,
            name: row.try_get("name").in_statement(STATEMENT)?,
            scopes: scopes(row, STATEMENT)?,
            created_at: row.try_get("created_at").in_statement(STATEMENT)?,
            created_by: row.try_get("created_by").in_statement(STATEMENT)?,
            revoked_at: row.try_get("revoked_at").in_statement(STATEMENT)?,
            revoked_by: row.try_get("revoked_by").in_statement(STATEMENT)?,
        })
    };
    rows.iter().map(record).collect()
}

/// The keys that are not revoked, with the hashes of their secrets.
pub async fn keys_in_force(pool: &Pool) -> Result<Vec<KeyInForce>, StoreError> {
    const STATEMENT: &str = "keys_in_force";
    let rows = sqlx::query(
        "/* keys_in_force */
         SELECT key_id, name, scopes, created_at, secret_sha256::text
         FROM public.api_keys WHERE revoked_at IS NULL",
    )
    .fetch_all(pool.get())
    .await
    .in_statement(STATEMENT)?;
    let in_force = |row: &PgRow| {
        let name: &str = row.try_get("name").in_statement(STATEMENT)?;
        let digest: &str = row.try_get("secret_sha256").in_statement(STATEMENT)?;
        let mut key = KeyInForce {
            id: key_id(row, STATEMENT)?,
            name: name.into(),
            scopes: scopes(row, STATEMENT)?,
            created_at: row.try_get("created_at").in_statement(STATEMENT)?,
            digest: [0; 32],
        };
        hex::decode_to_slice(digest, &mut key.digest)
            .map_err(|_| contradiction(STATEMENT, "a hash of a key that is none"))?;
        Ok(key)
    };
    rows.iter().map(in_force).collect()
}

fn key_id(row: &PgRow, statement: &'static str) -> Result<KeyId, StoreError> {
    let id: &str = row.try_get("key_id").in_statement(statement)?;
    id.parse().map_err(|_| contradiction(statement, "an id of a key that is none"))
}

fn scopes(row: &PgRow, statement: &'static str) -> Result<Scopes, StoreError> {
    let names: Vec<String> = row.try_get("scopes").in_statement(statement)?;
    let scopes: Result<Scopes, _> = names.iter().map(|name| name.parse::<Scope>()).collect();
    scopes.map_err(|_| contradiction(statement, "a scope that is none"))
}

fn contradiction(statement: &'static str, what: &str) -> StoreError {
    StoreError::Contradiction { statement, what: what.to_owned() }
}
