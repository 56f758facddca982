//! Past checks in pages that are bounded in rows and in bytes.

use super::StoreError;
use super::checks::{StoredCheck, list_checks};
use super::page::{PAGE_BYTES, PageRange, Slice};
use super::pool::Pool;

/// So many are read at once. Each has a hundred findings at most, so this is a few MiB.
const STEP: usize = 50;

/// Past checks, the newest first.
pub async fn past_checks(pool: &Pool, range: PageRange) -> Result<Slice<StoredCheck>, StoreError> {
    let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
    let mut items: Vec<StoredCheck> = Vec::new();
    let mut bytes = 0;
    let mut before = range.after;
    loop {
        let step = STEP.min(limit - items.len());
        // One more shows whether there is another.
        let to_read = i64::try_from(step + 1).unwrap_or(i64::MAX);
        let found = list_checks(pool, before, to_read).await?;
        let (more, last) = (found.len() > step, found.len().min(step));
        for (number, check) in (1..).zip(found.into_iter().take(step)) {
            bytes += check.findings.to_string().len();
            before = Some(check.id);
            items.push(check);
            if bytes >= PAGE_BYTES {
                return Ok(Slice { items, has_more: more || number < last });
            }
        }
        if !more || items.len() == limit {
            return Ok(Slice { items, has_more: more });
        }
    }
}
