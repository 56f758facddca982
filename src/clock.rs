//! The one place that reads the service's clock and its source of randomness.

use chrono::{DateTime, Duration, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

/// The service's clock. Code takes it as an argument, so that a test can have one that is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    offset: Duration,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The system's clock, wrong by `offset`.
    pub fn wrong_by(offset: Duration) -> Self {
        Self { offset }
    }

    /// Now, in whole microseconds: what PostgreSQL stores is what is hashed.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(self) -> DateTime<Utc> {
        let now = Utc::now() + self.offset;
        now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now)
    }

    /// A new correlation or request id: UUIDv7 (RFC 9562 section 5.7), sortable by time.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes identifiers")]
    pub fn new_id(self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Bytes that nobody can guess, from the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}
