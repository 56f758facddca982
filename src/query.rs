//! Which rows of a chain are meant: one filter for lists, statistics, exports, replay and the feed.

use ledger_verifier::{Chain, Column, ColumnType, RowHash, Value};
use uuid::Uuid;

use crate::chains::{IN_LEDGER, known_values};
use crate::decimal;
use crate::rows::parse_time;

/// How a column's value relates to the one that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// It is the same.
    Equal,
    /// It is the same or larger.
    AtLeast,
    /// It is the same or smaller.
    AtMost,
    /// It is smaller.
    Below,
}

/// In which order rows are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    #[default]
    Descending,
}

impl std::str::FromStr for Order {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "asc" => Ok(Self::Ascending),
            "desc" => Ok(Self::Descending),
            _ => Err("is asc or desc"),
        }
    }
}

/// A parameter that filters.
#[derive(Debug)]
pub struct Parameter {
    /// As it stands in a URL.
    pub name: &'static str,
    column: &'static str,
    /// How a row's value relates to the parameter's.
    pub comparison: Comparison,
}

const fn equal(column: &'static str) -> Parameter {
    Parameter { name: column, column, comparison: Comparison::Equal }
}

const fn bound(name: &'static str, column: &'static str, comparison: Comparison) -> Parameter {
    Parameter { name, column, comparison }
}

/// Every parameter that filters; a chain takes those of its columns.
pub static PARAMETERS: [Parameter; 31] = [
    bound("from", CREATED_AT, Comparison::AtLeast),
    bound("to", CREATED_AT, Comparison::Below),
    bound("timestamp_from", TIMESTAMP, Comparison::AtLeast),
    bound("timestamp_to", TIMESTAMP, Comparison::Below),
    bound("from_id", ID, Comparison::AtLeast),
    bound("to_id", ID, Comparison::AtMost),
    bound("min_conviction", "conviction", Comparison::AtLeast),
    bound("max_conviction", "conviction", Comparison::AtMost),
    equal("symbol"),
    equal("side"),
    equal("source_module"),
    equal("ticker"),
    equal("direction"),
    equal("signal_type"),
    equal("record_type"),
    equal("acted_upon"),
    equal("model_name"),
    equal("event_type"),
    equal("order_type"),
    equal("status"),
    equal("correlation_id"),
    equal("signal_id"),
    equal("execution_id"),
    equal("order_execution_id"),
    equal("exchange_order_id"),
    equal("recorded_by"),
    equal("actor"),
    equal("source"),
    equal("reason"),
    equal("duplicate_of"),
    equal("row_hash"),
];

const ID: &str = "id";
const CREATED_AT: &str = "created_at";
/// The column of the producer's time.
pub(crate) const TIMESTAMP: &str = "timestamp";

/// No column of the chain's description, since it is not hashed.
static ROW_HASH: Column =
    Column { name: "row_hash", ty: ColumnType::Text { max_chars: Some(64) }, nullable: false };

impl Parameter {
    /// The column of this chain that it is about.
    pub fn column_of(&self, chain: &'static Chain) -> Option<&'static Column> {
        if self.column == ROW_HASH.name {
            return Some(&ROW_HASH);
        }
        chain.columns.iter().find(|column| column.name == self.column)
    }
}

/// By what rows are grouped.
#[derive(Clone, Copy, Debug)]
pub enum GroupBy {
    /// The values of a column that can be filtered by.
    Column(&'static Column),
    /// Hours or days of the append, in UTC.
    Time(&'static str),
}

impl GroupBy {
    const UNITS: [&str; 2] = ["hour", "day"];

    /// What this name stands for on the chain.
    pub fn of(chain: &'static Chain, name: &str) -> Option<Self> {
        if let Some(unit) = Self::UNITS.into_iter().find(|unit| *unit == name) {
            return Some(Self::Time(unit));
        }
        let parameter = Self::columns_of(chain).find(|parameter| parameter.name == name)?;
        parameter.column_of(chain).map(Self::Column)
    }

    /// Every name that stands for something on the chain.
    pub fn names_of(chain: &'static Chain) -> impl Iterator<Item = &'static str> {
        Self::UNITS.into_iter().chain(Self::columns_of(chain).map(|parameter| parameter.name))
    }

    fn columns_of(chain: &'static Chain) -> impl Iterator<Item = &'static Parameter> {
        let is_equal = |parameter: &&Parameter| parameter.comparison == Comparison::Equal;
        Filter::parameters_of(chain).filter(is_equal)
    }
}

/// One condition of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column.
    pub column: &'static str,
    /// Its type.
    pub ty: ColumnType,
    /// How it compares.
    pub comparison: Comparison,
    /// With what.
    pub value: Value<'static>,
}

/// Rows of one chain that meet every condition.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The chain.
    pub chain: &'static Chain,
    conditions: Vec<Condition>,
    /// As they were given.
    given: Vec<(&'static str, String)>,
}

impl Filter {
    /// Every row of the chain.
    pub fn all(chain: &'static Chain) -> Self {
        Self { chain, conditions: Vec::new(), given: Vec::new() }
    }

    /// The parameters that this chain's filters take.
    pub fn parameters_of(chain: &'static Chain) -> impl Iterator<Item = &'static Parameter> {
        PARAMETERS.iter().filter(move |parameter| parameter.column_of(chain).is_some())
    }

    /// Adds the condition that a parameter of the chain states; fails with the rule that the text
    /// breaks, which goes on from the parameter's name.
    fn add(&mut self, parameter: &'static Parameter, text: &str) -> Result<(), String> {
        let Some(column) = parameter.column_of(self.chain) else {
            return Err(format!("filters no row of {}", self.chain.name));
        };
        let value = parse(self.chain, column, text)?;
        let (column, ty) = (column.name, column.ty);
        self.conditions.push(Condition { column, ty, comparison: parameter.comparison, value });
        self.given.push((parameter.name, text.to_owned()));
        Ok(())
    }

    /// Conditions on everything but the row's id and time.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| ![ID, CREATED_AT].contains(&condition.column))
    }

    /// Bounds of the ids: from the first up to, and without, the second.
    pub fn ids(&self) -> (i64, i64) {
        let bounds = self.bounds(ID).map(|(comparison, id)| match comparison {
            Comparison::AtMost => (Comparison::Below, id.saturating_add(1)),
            other => (other, id),
        });
        range(bounds, (1, i64::MAX))
    }

    /// Bounds of the time of the append, in microseconds since 1970, where there are any.
    pub fn times(&self) -> (Option<i64>, Option<i64>) {
        let (from, before) = range(self.bounds(CREATED_AT), (i64::MIN, i64::MAX));
        (Some(from).filter(|from| *from > i64::MIN), Some(before).filter(|to| *to < i64::MAX))
    }

    fn bounds(&self, column: &str) -> impl Iterator<Item = (Comparison, i64)> {
        self.conditions.iter().filter_map(move |condition| match condition.value {
            Value::Integer(number) | Value::Timestamp(number) if condition.column == column => {
                Some((condition.comparison, number))
            }
            _ => None,
        })
    }

    /// The filter as it was given, for people.
    pub fn given(&self) -> &[(&'static str, String)] {
        &self.given
    }
}

/// Adds to each of these filters what pairs of a parameter's name and its text state; fails with the name
/// and the rule that it or its text breaks.
pub fn add_all<'a>(
    filters: &mut [Filter],
    given: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), (&'a str, String)> {
    for (name, text) in given {
        let parameter = PARAMETERS.iter().find(|parameter| parameter.name == name);
        let parameter = parameter.ok_or_else(|| (name, "is no filter".to_owned()))?;
        for filter in &mut *filters {
            filter.add(parameter, text).map_err(|rule| (name, rule))?;
        }
    }
    Ok(())
}

/// A filter for every row of each chain that is named, or of every chain where none is; fails with the
/// rule that the names break.
pub fn filters_of<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Filter>, &'static str> {
    let mut filters: Vec<Filter> = Vec::new();
    for name in names {
        let chain = IN_LEDGER.into_iter().find(|chain| chain.name == name);
        let chain = chain.filter(|chain| filters.iter().all(|had| had.chain.name != chain.name));
        filters.push(Filter::all(chain.ok_or("is a comma-separated list of chains, each once")?));
    }
    if filters.is_empty() {
        filters.extend(IN_LEDGER.map(Filter::all));
    }
    Ok(filters)
}

fn range(bounds: impl Iterator<Item = (Comparison, i64)>, all: (i64, i64)) -> (i64, i64) {
    bounds.fold(all, |(from, before), (comparison, number)| match comparison {
        Comparison::Below => (from, before.min(number)),
        _ => (from.max(number), before),
    })
}

/// The value of a column that a text stands for, as the ledger itself spells it.
fn parse(chain: &Chain, column: &Column, text: &str) -> Result<Value<'static>, String> {
    if let Some(known) = known_values(chain, column.name)
        && !known.contains(&text)
    {
        return Err(format!("is none of {}", known.join(", ")));
    }
    match column.ty {
        ColumnType::BigInt | ColumnType::Integer => {
            let number = text.parse().ok().filter(|number: &i64| number.unsigned_abs() < 1 << 53);
            number.map(Value::Integer).ok_or_else(|| "is not a whole number".to_owned())
        }
        ColumnType::Boolean => match text {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err("is not true or false".to_owned()),
        },
        ColumnType::Numeric { precision, scale } => decimal::parse(text, precision, scale)
            .map(Value::Decimal)
            .map_err(|error| error.to_string()),
        ColumnType::Timestamp => parse_time(text).map(Value::Timestamp).map_err(ToOwned::to_owned),
        ColumnType::Uuid => {
            let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
            uuid.map(|id| Value::Uuid(id.into_bytes())).ok_or_else(|| "is not a UUID".to_owned())
        }
        // The column's type ignores what goes beyond it: another hash would find the row.
        ColumnType::Text { .. } if column.name == ROW_HASH.name => {
            let hash: Option<RowHash> = text.parse().ok();
            hash.map(|_| Value::Text(text.to_owned().into()))
                .ok_or_else(|| "is not 64 lowercase hex digits".to_owned())
        }
        ColumnType::Text { .. } if text.is_empty() => Err("is empty".to_owned()),
        ColumnType::Text { .. } if text.contains('\0') => Err("holds U+0000".to_owned()),
        ColumnType::Text { .. } => Ok(Value::Text(text.to_owned().into())),
        ColumnType::Document | ColumnType::Inet | ColumnType::Bytes => {
            Err("cannot be filtered by".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger_verifier::chain::{SIGNAL_AUDIT_LEDGER, SIGNALS};

    use super::*;

    fn filter(chain: &'static Chain, given: &[(&str, &str)]) -> Result<Filter, String> {
        let mut filter = Filter::all(chain);
        let added = add_all(std::slice::from_mut(&mut filter), given.iter().copied());
        added.map(|()| filter).map_err(|(_, rule)| rule)
    }

    #[test]
    fn bounds_meet() {
        let all = filter(&SIGNALS, &[]).unwrap();
        assert_eq!((all.ids(), all.times()), ((1, i64::MAX), (None, None)));
        let given = [("from_id", "3"), ("to_id", "7"), ("to", "1970-01-01T00:00:01Z")];
        let some = filter(&SIGNALS, &given).unwrap();
        assert_eq!((some.ids(), some.times()), ((3, 8), (None, Some(1_000_000))));
        assert_eq!(some.conditions().count(), 0);
    }

    #[test]
    fn what_does_not_parse_is_refused() {
        for (name, text) in [
            ("from", "yesterday"),
            ("from", "2026-01-01"),
            ("to", "2026-01-01T00:00:00.1234567Z"),
            ("timestamp_from", "1969-12-31T23:59:59Z"),
            ("from_id", "1.5"),
            ("to_id", "9007199254740993"),
            ("min_conviction", "high"),
            ("max_conviction", "1.23456"),
            ("direction", "UP"),
            ("acted_upon", "yes"),
            ("correlation_id", "7"),
            ("ticker", ""),
            ("ticker", "A\0"),
            ("symbol", "AAPL"),
            ("row_hash", "0"),
            ("row_hash", &"A".repeat(64)),
            ("row_hash", &format!("{} ", "a".repeat(64))),
        ] {
            assert!(filter(&SIGNAL_AUDIT_LEDGER, &[(name, text)]).is_err(), "{name}={text}");
        }
    }
}
