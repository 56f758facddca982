//! For how long rows are to be kept, as far as that is on record.

use super::{Database, InStatement, StoreError};

/// For how many days rows are to be kept, by the last record of a change; `None` before the first.
pub async fn recorded_retention_days(database: &Database) -> Result<Option<i64>, StoreError> {
    let mut connection = database.connect().await?;
    let days: Option<Option<i64>> = sqlx::query_scalar(
        "/* recorded_retention_days */
         SELECT CASE WHEN details ->> 'days' ~ '^[0-9]{1,9}$' THEN (details ->> 'days')::bigint END
         FROM public.security_events WHERE event_type = 'RETENTION_CHANGED' AND actor = 'system'
         ORDER BY id DESC LIMIT 1",
    )
    .fetch_optional(&mut connection)
    .await
    .in_statement("recorded_retention_days")?;
    Ok(days.flatten())
}
