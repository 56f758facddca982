//! How long a request may take, and its body.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use tokio::time::{Instant, timeout};

use super::problem::{Code, Problem};

/// Senders give up at 3 s. So long after its head had arrived a request is answered, whatever
/// happens in between: the look-up of its key, the wait for the ledger's lock, the commit. Only the
/// time in which its body arrives does not count.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_300);
/// How long a sender may take for its body.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// When a request's head had arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started(Instant);

impl Started {
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// When a request is answered whose body is not read.
    pub(super) fn deadline(self) -> Instant {
        self.0 + ANSWER_WITHIN
    }

    /// The body, and when the request is answered.
    pub(super) async fn read_body(
        self,
        request: Request,
        limit: usize,
    ) -> Result<(Bytes, Instant), Problem> {
        let asked = Instant::now();
        let body = read_body(request, limit).await?;
        Ok((body, self.deadline() + asked.elapsed()))
    }
}

impl<S: Sync> FromRequestParts<S> for Started {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The telemetry layer has put it there.
        Ok(parts.extensions.get().copied().unwrap_or_else(Self::now))
    }
}

async fn read_body(request: Request, limit: usize) -> Result<Bytes, Problem> {
    match timeout(BODY_WITHIN, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(BytesRejection::FailedToBufferBody(rejection)))
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE =>
        {
            let detail = format!("the body has more than {limit} bytes");
            Err(Problem::new(Code::TooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(Code::UnreadableBody, "the body broke off")),
        Err(_) => {
            let detail = format!("the body took longer than {} s", BODY_WITHIN.as_secs());
            Err(Problem::new(Code::UnreadableBody, detail))
        }
    }
}
