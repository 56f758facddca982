//! What a chain consists of. The one description: the canonical row, the transfer to and from
//! PostgreSQL, exports and filters all follow it.

use std::borrow::Cow;

/// How a column is stored and hashed (FORMAT.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// 64-bit integer; hashed values stay below 2^53.
    BigInt,
    /// 32-bit integer.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Exact decimal of `precision` digits, `scale` of them after the point.
    Numeric {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// Text of at most so many characters (Unicode code points), or without a bound.
    Text {
        /// The bound in characters, if there is one.
        max_chars: Option<u16>,
    },
    /// RFC 9562 identifier.
    Uuid,
    /// Host address, IPv4 or IPv6, without a mask.
    Inet,
    /// Instant in whole microseconds UTC.
    Timestamp,
    /// JSON kept byte for byte: column `X_text`, hashed as member `X_sha256`.
    Document,
    /// Bytes that may not be text, hashed as member `X_sha256`.
    Bytes,
}

impl ColumnType {
    /// What the canonical member's name has after the column's name.
    pub const fn member_suffix(self) -> &'static str {
        match self {
            Self::Document | Self::Bytes => "_sha256",
            _ => "",
        }
    }
}

/// One hashed column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name; for a document the name without `_text`.
    pub name: &'static str,
    /// How it is stored and hashed.
    pub ty: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
}

impl Column {
    /// The name of the stored column that is hashed: `X_text` for a document X.
    pub fn stored_name(&self) -> String {
        match self.ty {
            ColumnType::Document => format!("{}_text", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// The name of its member in a row as JSON, and of its column in a table: `X_text` for a
    /// document X, `X_base64` for bytes.
    pub fn json_name(&self) -> Cow<'static, str> {
        match self.ty {
            ColumnType::Document => format!("{}_text", self.name).into(),
            ColumnType::Bytes => format!("{}_base64", self.name).into(),
            _ => self.name.into(),
        }
    }
}

/// More columns than any chain has; sizes the table that [`Chain::new`] fills at compile time.
const MAX_MEMBERS: usize = 24;

/// A member of the canonical row: a column by its place, or one of the two fixed members.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member {
    Column(usize),
    ChainName,
    Version,
}

/// An append-only table whose rows are linked by hashes.
#[derive(Debug)]
pub struct Chain {
    /// The table's name, and the chain's name everywhere else.
    pub name: &'static str,
    /// Every hashed column in table order: all but `prev_hash`, `row_hash` and generated ones.
    /// The first is `id`, the last `created_at`.
    pub columns: &'static [Column],
    members: [Member; MAX_MEMBERS],
}

impl Chain {
    const fn new(name: &'static str, columns: &'static [Column]) -> Self {
        let mut chain = Self { name, columns, members: [Member::Version; MAX_MEMBERS] };
        let mut at = 0;
        while at < columns.len() {
            chain.members[at] = Member::Column(at);
            at += 1;
        }
        chain.members[at] = Member::ChainName;
        // Insertion sort by member name, at compile time; `v` already stands last.
        let mut sorted = 1;
        while sorted < columns.len() + 2 {
            let mut place = sorted;
            while place > 0 && chain.member_precedes(place, place - 1) {
                let moved = chain.members[place];
                chain.members[place] = chain.members[place - 1];
                chain.members[place - 1] = moved;
                place -= 1;
            }
            sorted += 1;
        }
        chain
    }

    /// The members in the order of the canonical row: sorted by name (RFC 8785 section 3.2.3;
    /// for ASCII names UTF-16 order is byte order).
    pub(crate) fn members(&self) -> &[Member] {
        &self.members[..self.columns.len() + 2]
    }

    /// The place of the column called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    const fn member_name(&self, member: Member) -> (&'static str, &'static str) {
        match member {
            Member::Column(at) => (self.columns[at].name, self.columns[at].ty.member_suffix()),
            Member::ChainName => ("chain", ""),
            Member::Version => ("v", ""),
        }
    }

    const fn member_precedes(&self, left: usize, right: usize) -> bool {
        let left = self.member_name(self.members[left]);
        let right = self.member_name(self.members[right]);
        let mut at = 0;
        loop {
            match (byte_at(left, at), byte_at(right, at)) {
                (None, Some(_)) => return true,
                (_, None) => return false,
                (Some(l), Some(r)) if l != r => return l < r,
                _ => at += 1,
            }
        }
    }
}

const fn byte_at((name, suffix): (&str, &str), at: usize) -> Option<u8> {
    if at < name.len() {
        Some(name.as_bytes()[at])
    } else if at - name.len() < suffix.len() {
        Some(suffix.as_bytes()[at - name.len()])
    } else {
        None
    }
}

const fn column(name: &'static str, ty: ColumnType) -> Column {
    Column { name, ty, nullable: false }
}

const fn optional(name: &'static str, ty: ColumnType) -> Column {
    Column { name, ty, nullable: true }
}

const fn text(max_chars: u16) -> ColumnType {
    ColumnType::Text { max_chars: Some(max_chars) }
}

const LONG_TEXT: ColumnType = ColumnType::Text { max_chars: None };
const MONEY: ColumnType = ColumnType::Numeric { precision: 28, scale: 10 };
const ID: Column = column("id", ColumnType::BigInt);
const CREATED_AT: Column = column("created_at", ColumnType::Timestamp);

/// Every verified webhook that became a signal: the root of a trade's story.
pub static SIGNALS: Chain = Chain::new(
    "signals",
    &[
        ID,
        column("correlation_id", ColumnType::Uuid),
        column("signal_id", text(64)),
        column("symbol", text(20)),
        column("side", text(10)),
        column("price", MONEY),
        column("quantity", MONEY),
        column("raw_payload", ColumnType::Document),
        column("source_ip", ColumnType::Inet),
        column("hmac_verified", ColumnType::Boolean),
        column("auth_method", text(20)),
        column("recorded_by", text(64)),
        column("received_at", ColumnType::Timestamp),
        CREATED_AT,
    ],
);

/// What a model thought of a signal.
pub static AI_DEBATES: Chain = Chain::new(
    "ai_debates",
    &[
        ID,
        column("correlation_id", ColumnType::Uuid),
        column("model_name", text(50)),
        column("reasoning_json", ColumnType::Document),
        column("confidence_score", ColumnType::Numeric { precision: 5, scale: 4 }),
        column("elapsed_ms", ColumnType::Integer),
        column("is_timeout", ColumnType::Boolean),
        column("recorded_by", text(64)),
        CREATED_AT,
    ],
);

/// Orders made for a signal.
pub static ORDER_EXECUTION: Chain = Chain::new(
    "order_execution",
    &[
        ID,
        column("correlation_id", ColumnType::Uuid),
        column("order_type", text(20)),
        column("symbol", text(20)),
        column("side", text(10)),
        column("quantity", MONEY),
        optional("price", MONEY),
        optional("exchange_order_id", text(64)),
        column("status", text(20)),
        column("recorded_by", text(64)),
        CREATED_AT,
    ],
);

/// What became of an order, and kill switches.
pub static ORDER_EVENTS: Chain = Chain::new(
    "order_events",
    &[
        ID,
        optional("order_execution_id", ColumnType::BigInt),
        column("event_type", text(30)),
        optional("fill_quantity", MONEY),
        optional("fill_price", MONEY),
        optional("zar_equity", ColumnType::Numeric { precision: 28, scale: 2 }),
        optional("positions_closed", ColumnType::Document),
        optional("rejection_reason", LONG_TEXT),
        optional("exchange_error_code", text(50)),
        column("recorded_by", text(64)),
        CREATED_AT,
    ],
);

/// Every signal of every producer, and what became of it.
pub static SIGNAL_AUDIT_LEDGER: Chain = Chain::new(
    "signal_audit_ledger",
    &[
        ID,
        column("record_type", text(10)),
        column("signal_id", text(64)),
        column("source_module", text(50)),
        optional("signal_type", text(50)),
        column("ticker", text(20)),
        column("direction", text(10)),
        column("conviction", ColumnType::Numeric { precision: 7, scale: 4 }),
        optional("confidence", ColumnType::Numeric { precision: 5, scale: 4 }),
        optional("price", MONEY),
        column("timestamp", ColumnType::Timestamp),
        column("payload_json", ColumnType::Document),
        column("acted_upon", ColumnType::Boolean),
        optional("execution_id", text(64)),
        column("latency_ms", ColumnType::Integer),
        optional("correlation_id", ColumnType::Uuid),
        column("recorded_by", text(64)),
        column("received_at", ColumnType::Timestamp),
        CREATED_AT,
    ],
);

/// The audit of the audit.
pub static SECURITY_EVENTS: Chain = Chain::new(
    "security_events",
    &[
        ID,
        column("event_type", text(40)),
        column("actor", text(64)),
        optional("subject", LONG_TEXT),
        column("details", ColumnType::Document),
        optional("source_ip", ColumnType::Inet),
        CREATED_AT,
    ],
);

/// Authenticated deliveries that could not become a signal.
pub static QUARANTINED_DELIVERIES: Chain = Chain::new(
    "quarantined_deliveries",
    &[
        ID,
        column("source", text(64)),
        column("reason", text(40)),
        optional("detail", LONG_TEXT),
        column("body", ColumnType::Bytes),
        optional("content_type", text(255)),
        column("source_ip", ColumnType::Inet),
        column("auth_method", text(20)),
        column("hmac_verified", ColumnType::Boolean),
        optional("duplicate_of", ColumnType::Uuid),
        column("received_at", ColumnType::Timestamp),
        CREATED_AT,
    ],
);

/// The seven chains of format version 1.
pub static CHAINS: [&Chain; 7] = [
    &SIGNALS,
    &AI_DEBATES,
    &ORDER_EXECUTION,
    &ORDER_EVENTS,
    &SIGNAL_AUDIT_LEDGER,
    &SECURITY_EVENTS,
    &QUARANTINED_DELIVERIES,
];

/// The chain called `name`.
pub fn by_name(name: &str) -> Option<&'static Chain> {
    CHAINS.into_iter().find(|chain| chain.name == name)
}
