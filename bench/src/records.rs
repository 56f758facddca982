//! Records as producers send them, the same ones for the same seed: two dozen producers, 500 tickers
//! of which few have most of the signals, and an outcome for about a quarter of the signals.

use audit_ledger::chains::rfc3339;
use ledger_verifier::{Value, decimal};
use sqlx::types::Uuid;
use sqlx::types::chrono::DateTime;

pub(crate) const TICKERS: usize = 500;
/// Share of the rows that are outcomes.
const OUTCOMES_PER_MILLE: u64 = 200;
/// Signals of which a row may be the outcome: the last ones without any.
const OPEN_SIGNALS: usize = 4096;
const SOURCE_MODULES: [&str; 24] = [
    "ema",
    "social",
    "fusion",
    "agent",
    "momentum",
    "mean_reversion",
    "news",
    "orderflow",
    "breakout",
    "options_flow",
    "pairs",
    "volatility",
    "macro",
    "sentiment",
    "vwap",
    "rsi",
    "insider",
    "seasonality",
    "carry",
    "funding_rate",
    "onchain",
    "earnings",
    "dark_pool",
    "manual",
];
const SIGNAL_TYPES: [&str; 12] = [
    "entry",
    "exit",
    "ema_cross",
    "breakout",
    "reversal",
    "rebalance",
    "stop_loss",
    "take_profit",
    "scale_in",
    "scale_out",
    "hedge",
    "alert",
];
const RECORDERS: [&str; 6] =
    ["ema-desk", "social-feed", "fusion-engine", "agent-pool", "research", "ops"];
const WORDS: [&str; 16] = [
    "trend",
    "volume",
    "above",
    "average",
    "resistance",
    "broken",
    "confirmed",
    "by",
    "order",
    "flow",
    "weak",
    "session",
    "open",
    "divergence",
    "spread",
    "tight",
];

/// `SplitMix64`: reproducible, and good enough for data.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 up to, and without, this.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.next() % length as u64).expect("below a length")
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// A permutation of all numbers of 64 bits.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Picks places of a list, the first ones much oftener (Zipf's law).
#[derive(Debug)]
struct Skewed(Vec<u64>);

impl Skewed {
    fn of(length: usize) -> Self {
        let mut sum = 0;
        let weight = |place: usize| 1_000_000 / (place as u64 + 1);
        Self((0..length).map(weight).map(|weight| (sum += weight, sum).1).collect())
    }

    fn pick(&self, random: &mut Random) -> usize {
        let at = random.below(*self.0.last().expect("not empty"));
        self.0.partition_point(|sum| *sum <= at)
    }
}

/// The ticker at this place, the commonest first.
pub(crate) fn ticker(place: usize) -> String {
    const CRYPTO: [&str; 6] = ["BTCUSD", "ETHUSD", "SOLUSD", "XRPUSD", "DOGEUSD", "ADAUSD"];
    if let Some(name) = CRYPTO.get(place) {
        return (*name).to_owned();
    }
    let mut name = String::new();
    let mut rest = mix(place as u64) % 26_u64.pow(2);
    // The place itself keeps them apart, what is before it makes them look alike.
    for _ in 0..2 {
        name.push(char::from(b'A' + u8::try_from(rest % 26).expect("below 26")));
        rest /= 26;
    }
    let mut rest = place as u64;
    for _ in 0..2 {
        name.push(char::from(b'A' + u8::try_from(rest % 26).expect("below 26")));
        rest /= 26;
    }
    name
}

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    is_outcome: bool,
    signal_id: String,
    source_module: &'static str,
    signal_type: &'static str,
    ticker: usize,
    direction: &'static str,
    /// In units of 10^-4, as `confidence`.
    conviction: i128,
    confidence: Option<i128>,
    /// In units of 10^-10.
    price: i128,
    /// Microseconds since 1970, as `received_at`.
    timestamp: i64,
    received_at: i64,
    payload: String,
    acted_upon: bool,
    execution_id: Option<String>,
    correlation_id: Option<Uuid>,
    recorded_by: &'static str,
}

impl Record {
    /// The row's values, in the order of the chain's columns.
    pub(crate) fn values<'a>(
        &'a self,
        tickers: &'a [String],
        id: i64,
        created_at: i64,
    ) -> Vec<Value<'a>> {
        let text = |text: &'a str| Value::Text(text.into());
        vec![
            Value::Integer(id),
            text(if self.is_outcome { "OUTCOME" } else { "SIGNAL" }),
            text(&self.signal_id),
            text(self.source_module),
            text(self.signal_type),
            text(&tickers[self.ticker]),
            text(self.direction),
            Value::Decimal(self.conviction),
            self.confidence.map_or(Value::Null, Value::Decimal),
            Value::Decimal(self.price),
            Value::Timestamp(self.timestamp),
            Value::Document(self.payload.as_str().into()),
            Value::Boolean(self.acted_upon),
            self.execution_id.as_deref().map_or(Value::Null, text),
            Value::Integer((self.received_at - self.timestamp).div_euclid(1000)),
            self.correlation_id.map_or(Value::Null, |id| Value::Uuid(id.into_bytes())),
            text(self.recorded_by),
            Value::Timestamp(self.received_at),
            Value::Timestamp(created_at),
        ]
    }

    /// The record as its producer sends it.
    pub(crate) fn to_json(&self, tickers: &[String]) -> String {
        let Self { signal_id, source_module, signal_type, payload, acted_upon, .. } = self;
        let timestamp = DateTime::from_timestamp_micros(self.timestamp).expect("a time of today");
        let of_kind = if self.is_outcome {
            r#""record_type":"OUTCOME""#.to_owned()
        } else {
            format!(
                r#""ticker":"{}","direction":"{}","conviction":{}"#,
                tickers[self.ticker],
                self.direction,
                decimal::to_string(self.conviction, 4)
            )
        };
        let optional = |name: &str, value: Option<String>| {
            value.map(|value| format!(r#","{name}":"{value}""#)).unwrap_or_default()
        };
        format!(
            r#"{{"signal_id":"{signal_id}","source_module":"{source_module}","signal_type":"{signal_type}",{of_kind},"price":"{}","timestamp":"{}","acted_upon":{acted_upon},"payload_json":{payload}{}{}}}"#,
            decimal::to_string(self.price, 10),
            rfc3339(timestamp),
            optional("confidence", self.confidence.map(|units| decimal::to_string(units, 4))),
            optional("execution_id", self.execution_id.clone()),
        )
    }
}

/// A signal that may have an outcome.
#[derive(Debug)]
struct OpenSignal {
    signal_id: String,
    source_module: &'static str,
    ticker: usize,
    direction: &'static str,
    conviction: i128,
    price: i128,
    recorded_by: &'static str,
}

/// Makes records one after another.
#[derive(Debug)]
pub(crate) struct Producers {
    random: Random,
    /// Distinguishes the signal ids of one seed, and of several.
    next: u64,
    modules: Skewed,
    by_ticker: Skewed,
    pub(crate) tickers: Vec<String>,
    open: Vec<OpenSignal>,
    /// Webhook signals to which some records belong.
    correlation_ids: Vec<Uuid>,
}

impl Producers {
    pub(crate) fn new(seed: u64, correlation_ids: Vec<Uuid>) -> Self {
        Self {
            random: Random(seed),
            next: seed << 40,
            modules: Skewed::of(SOURCE_MODULES.len()),
            by_ticker: Skewed::of(TICKERS),
            tickers: (0..TICKERS).map(ticker).collect(),
            open: Vec::with_capacity(OPEN_SIGNALS),
            correlation_ids,
        }
    }

    /// The next record has no outcome of those before it: they may be recorded at the same time.
    pub(crate) fn begin_batch(&mut self) {
        self.open.clear();
    }

    /// The next record, received then.
    pub(crate) fn record(&mut self, received_at: i64) -> Record {
        if !self.open.is_empty() && self.random.happens(OUTCOMES_PER_MILLE) {
            let at = self.random.index(self.open.len());
            let signal = self.open.swap_remove(at);
            return self.outcome(signal, received_at);
        }
        let signal = self.signal(received_at);
        let open = OpenSignal {
            signal_id: signal.signal_id.clone(),
            source_module: signal.source_module,
            ticker: signal.ticker,
            direction: signal.direction,
            conviction: signal.conviction,
            price: signal.price,
            recorded_by: signal.recorded_by,
        };
        if self.open.len() == OPEN_SIGNALS {
            let at = self.random.index(OPEN_SIGNALS);
            self.open[at] = open;
        } else {
            self.open.push(open);
        }
        signal
    }

    fn signal(&mut self, received_at: i64) -> Record {
        let random = &mut self.random;
        let module = self.modules.pick(random);
        let ticker = self.by_ticker.pick(random);
        self.next += 1;
        // Two throws: most convictions are in the middle. Two digits after the point.
        let conviction =
            i128::from(u64::midpoint(random.below(10_001), random.below(10_001))) * 100;
        let correlation_id = if random.happens(50) && !self.correlation_ids.is_empty() {
            Some(*random.pick(&self.correlation_ids))
        } else {
            None
        };
        let acted_upon = random.happens(10);
        Record {
            is_outcome: false,
            signal_id: format!("{}-{:016x}", SOURCE_MODULES[module], mix(self.next)),
            source_module: SOURCE_MODULES[module],
            signal_type: SIGNAL_TYPES[random.index(SIGNAL_TYPES.len())],
            ticker,
            direction: ["LONG", "LONG", "SHORT", "NEUTRAL"][random.index(4)],
            conviction,
            confidence: random.happens(800).then(|| i128::from(random.below(10_001))),
            price: price(random, ticker),
            timestamp: received_at - latency_us(random),
            received_at,
            payload: signal_payload(random),
            acted_upon,
            execution_id: acted_upon.then(|| execution_id(random)),
            correlation_id,
            recorded_by: RECORDERS[module % RECORDERS.len()],
        }
    }

    fn outcome(&mut self, signal: OpenSignal, received_at: i64) -> Record {
        let random = &mut self.random;
        let acted_upon = random.happens(600);
        let change = i128::from(random.below(2001)) - 1000;
        Record {
            is_outcome: true,
            signal_id: signal.signal_id,
            source_module: signal.source_module,
            signal_type: if acted_upon { "filled" } else { "dismissed" },
            ticker: signal.ticker,
            direction: signal.direction,
            conviction: signal.conviction,
            confidence: None,
            price: (signal.price + signal.price / 100_000 * change).max(0),
            timestamp: received_at - latency_us(random),
            received_at,
            payload: outcome_payload(random),
            acted_upon,
            execution_id: acted_upon.then(|| execution_id(random)),
            correlation_id: None,
            recorded_by: signal.recorded_by,
        }
    }
}

fn execution_id(random: &mut Random) -> String {
    format!("exec-{:016x}", random.next())
}

/// Each ticker has its own level; cents, in units of 10^-10.
fn price(random: &mut Random, ticker: usize) -> i128 {
    let level = 500 + mix(ticker as u64) % 50_000;
    i128::from(level + random.below(level / 10)) * 100_000_000
}

/// Mostly from 1 to 800 ms; some come late, and some clocks are ahead.
fn latency_us(random: &mut Random) -> i64 {
    let usual = (1_500_u64 << random.below(9)) + random.below(1_000);
    let micros = match random.below(200) {
        0 => usual + random.below(3_600_000_000),
        1 => return -i64::try_from(random.below(50_000)).expect("small"),
        _ => usual,
    };
    i64::try_from(micros).expect("at most an hour")
}

fn note(random: &mut Random) -> String {
    let count = 2 + random.below(14);
    let words: Vec<_> = (0..count).map(|_| *random.pick(&WORDS)).collect();
    words.join(" ")
}

fn signal_payload(random: &mut Random) -> String {
    let (a, b, c) = (random.below(100), random.below(10_000), random.below(1_000_000));
    let note = note(random);
    match random.below(3) {
        0 => format!(
            r#"{{"rsi":{a}.{},"macd":-0.{b:04},"ema_fast":{b}.25,"ema_slow":{c}.5,"volume":{c},"interval":"5m","note":"{note}"}}"#,
            b % 10
        ),
        1 => format!(
            r#"{{"model":"fusion-v3","votes":{{"ema":0.{b:04},"social":0.{a:02},"news":0.{c:06}}},"regime":"trend","rationale":"{note}"}}"#
        ),
        _ => format!(
            r#"{{"mentions":{c},"sentiment":0.{b:04},"authors":{b},"window_minutes":{a},"platforms":["x","reddit"],"sample":"{note}"}}"#
        ),
    }
}

fn outcome_payload(random: &mut Random) -> String {
    let (a, b) = (random.below(1000), random.below(100_000));
    let note = note(random);
    format!(
        r#"{{"status":"filled","venue":"XNAS","filled_qty":"{a}.00","avg_price":"{b}.25","slippage_bps":{},"comment":"{note}"}}"#,
        a % 20
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn records_are_what_they_are_said_to_be() {
        let mut producers = Producers::new(1, Vec::new());
        let all: Vec<_> =
            (0..20_000).map(|at| producers.record(1_700_000_000_000_000 + at)).collect();
        let outcomes = all.iter().filter(|record| record.is_outcome).count();
        assert!((3_500..4_500).contains(&outcomes), "{outcomes}");
        let signals = all.iter().filter(|record| !record.is_outcome);
        let ids: HashSet<_> = signals.map(|record| &record.signal_id).collect();
        assert_eq!(ids.len() + outcomes, all.len());
        assert_eq!(producers.tickers.iter().collect::<HashSet<_>>().len(), TICKERS);
        for record in &all {
            assert!((100..=320).contains(&record.payload.len()), "{}", record.payload);
            let json = record.to_json(&producers.tickers);
            assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        }
    }
}
