//! How many requests a key and an address may make.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use metrics::counter;
use tokio::time::Instant;

use super::Service;
use super::problem::{Code, Problem};
use super::telemetry::ClientAddress;
use crate::config::RateSettings;
use crate::keys::KeyId;

/// Routes that orchestrators, monitoring and readers of the description ask without limit.
const UNLIMITED: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];
/// The page at `/docs` and its parts.
const DOCS: &str = "/docs";

/// The limits of this process; clones share them.
#[derive(Clone, Debug)]
pub struct RateLimits {
    keys: Option<Arc<Limiter<KeyId>>>,
    addresses: Option<Arc<Limiter<IpAddr>>>,
}

impl RateLimits {
    /// As configured.
    pub fn new(settings: RateSettings) -> Self {
        Self {
            keys: NonZeroU32::new(settings.key_per_s).map(Limiter::new),
            addresses: NonZeroU32::new(settings.address_per_s).map(Limiter::new),
        }
    }

    /// Counts a request of a key's holder.
    pub(super) fn check_key(&self, key: KeyId) -> Result<(), Problem> {
        check(self.keys.as_deref(), &key, "key")
    }

    /// Counts a request of an address; one of IPv6 stands for its network of 64 bits, which is
    /// the least that anybody is given.
    fn check_address(&self, address: IpAddr) -> Result<(), Problem> {
        let network = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        };
        check(self.addresses.as_deref(), &network, "address")
    }
}

fn check<K: Hash + Eq + Clone>(
    limiter: Option<&Limiter<K>>,
    key: &K,
    of: &'static str,
) -> Result<(), Problem> {
    let Some(limiter) = limiter else { return Ok(()) };
    limiter.check(key).map_err(|wait_s| {
        counter!("ledger_rate_limited_total", "of" => of).increment(1);
        let detail = format!("more than {} requests a second of one {of}", limiter.per_s);
        Problem::new(Code::TooManyRequests, detail).retry_after(wait_s)
    })
}

/// So many requests a second for each key, and a burst of twice as many.
#[derive(Debug)]
struct Limiter<K: Hash + Eq + Clone> {
    per_s: NonZeroU32,
    states: RateLimiter<K, HashMapStateStore<K>, MonotonicClock>,
    started: Instant,
    /// The second, since then, in which those that are as good as new were last forgotten. So
    /// none is kept for much longer than its burst takes to refill.
    cleaned: AtomicU64,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(per_s: NonZeroU32) -> Arc<Self> {
        let quota = Quota::per_second(per_s).allow_burst(per_s.saturating_mul(BURST));
        Arc::new(Self {
            per_s,
            states: RateLimiter::hashmap_with_clock(quota, MonotonicClock),
            started: Instant::now(),
            cleaned: AtomicU64::new(0),
        })
    }

    /// The whole seconds after which to try again, where it is too much.
    fn check(&self, key: &K) -> Result<(), u32> {
        let second = self.started.elapsed().as_secs();
        if self.cleaned.swap(second, Ordering::Relaxed) != second {
            self.states.retain_recent();
        }
        self.states.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(MonotonicClock.now());
            let whole = wait + Duration::from_nanos(999_999_999);
            u32::try_from(whole.as_secs()).unwrap_or(u32::MAX).max(1)
        })
    }
}

/// How many seconds' worth of requests may come at once.
const BURST: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");

/// Refuses an address that asks too often, before anything of its request is looked at.
pub(super) async fn limit_addresses(
    State(service): State<Service>,
    Extension(client): Extension<ClientAddress>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let is_unlimited = |route: &str| UNLIMITED.contains(&route) || route.starts_with(DOCS);
    if !route.is_some_and(is_unlimited)
        && let Err(problem) = service.limits.check_address(client.nearest)
    {
        return problem.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(key_per_s: u32, address_per_s: u32) -> RateLimits {
        RateLimits::new(RateSettings { key_per_s, address_per_s })
    }

    #[test]
    fn a_burst_passes_and_then_an_address_waits_for_whole_seconds() {
        let limits = limits(0, 2);
        let address = |text: &str| limits.check_address(text.parse().unwrap());
        for _ in 0..4 {
            assert!(address("198.51.100.7").is_ok());
        }
        assert!(address("198.51.100.7").is_err());
        assert!(address("198.51.100.8").is_ok());
        for host in 1..=4 {
            assert!(address(&format!("2001:db8::{host}")).is_ok());
        }
        assert!(address("2001:db8::ffff:0:0:1").is_err(), "of the same 64 bits");
        assert!(address("2001:db8:0:1::1").is_ok());
        for _ in 0..100 {
            assert!(limits.check_key("0123456789abcdef".parse().unwrap()).is_ok(), "no limit");
        }
    }

    #[test]
    fn those_that_are_as_good_as_new_are_forgotten() {
        let limiter = Limiter::new(NonZeroU32::new(1000).unwrap());
        for number in 0..10_000_u32 {
            limiter.check(&number).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1_100));
        limiter.check(&0).unwrap();
        assert!(limiter.states.len() < 10, "{}", limiter.states.len());
    }
}
