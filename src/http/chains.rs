//! What the chains consist of, for clients that would show or filter their rows without a list of
//! their own.

use std::borrow::Cow;

use axum::Json;
use ledger_verifier::{Chain, Column, ColumnType};
use serde::Serialize;

use super::auth::KeyHolder;
use super::page::NoParameters;
use super::problem::{RefusedParameter, RefusedWithoutKey};
use crate::chains::{IN_LEDGER, known_values, stops_in_lockdown};
use crate::query::{Comparison, Filter, GroupBy, Parameter};

/// Every chain.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ChainsAnswer {
    /// In the ledger's order.
    chains: Vec<ChainAnswer>,
}

/// What a chain consists of.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ChainAnswer {
    /// Its name, in the database and everywhere else.
    name: &'static str,
    /// Whether it takes no rows in a lockdown.
    stops_in_lockdown: bool,
    /// The hashed columns in their order. Beside them a row as JSON has `chain`, `prev_hash`,
    /// `row_hash` and `leaf_index`.
    columns: Vec<ColumnAnswer>,
    /// What its lists, statistics, exports, replay and feed are filtered by.
    filters: Vec<FilterAnswer>,
    /// What its statistics are grouped by.
    group_by: Vec<&'static str>,
}

/// A column.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ColumnAnswer {
    /// As in a row as JSON.
    name: Cow<'static, str>,
    #[serde(rename = "type")]
    ty: TypeAnswer,
    /// Whether it may be null.
    nullable: bool,
    /// Of a decimal: all its digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<u8>,
    /// Of a decimal: its digits after the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<u8>,
    /// Of a text: its length at most, in Unicode code points; absent where it has no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_chars: Option<u16>,
    /// What it can hold, where that is a choice of few.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    values: Option<&'static [&'static str]>,
}

/// What a value is, and how it stands in JSON: an `integer` as a number, a `boolean` as itself, all
/// others as strings: a `decimal` with its exact digits, a `time` in RFC 3339 (UTC, six digits), an
/// `address` of a host, a `document` as the text of JSON that was sent, `bytes` in base64.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ColumnType)]
pub(super) enum TypeAnswer {
    Integer,
    Boolean,
    Decimal,
    Text,
    Uuid,
    Address,
    Time,
    Document,
    Bytes,
}

/// A parameter that filters.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FilterAnswer {
    /// As it stands in a URL.
    name: &'static str,
    /// The member of a row as JSON that it is about.
    column: Cow<'static, str>,
    /// How that relates to what is given.
    comparison: Comparison,
    #[serde(rename = "type")]
    ty: TypeAnswer,
    /// What can be given, where that is a choice of few.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    values: Option<&'static [&'static str]>,
}

impl ChainAnswer {
    fn of(chain: &'static Chain) -> Self {
        let filters = Filter::parameters_of(chain);
        Self {
            name: chain.name,
            stops_in_lockdown: stops_in_lockdown(chain),
            columns: chain.columns.iter().map(|column| ColumnAnswer::of(chain, column)).collect(),
            filters: filters.filter_map(|filter| FilterAnswer::of(chain, filter)).collect(),
            group_by: GroupBy::names_of(chain).collect(),
        }
    }
}

impl ColumnAnswer {
    fn of(chain: &Chain, column: &Column) -> Self {
        let (precision, scale) = match column.ty {
            ColumnType::Numeric { precision, scale } => (Some(precision), Some(scale)),
            _ => (None, None),
        };
        let max_chars = match column.ty {
            ColumnType::Text { max_chars } => max_chars,
            _ => None,
        };
        Self {
            name: column.json_name(),
            ty: column.ty.into(),
            nullable: column.nullable,
            precision,
            scale,
            max_chars,
            values: known_values(chain, column.name),
        }
    }
}

impl FilterAnswer {
    fn of(chain: &'static Chain, filter: &Parameter) -> Option<Self> {
        let column = filter.column_of(chain)?;
        Some(Self {
            name: filter.name,
            column: column.json_name(),
            comparison: filter.comparison,
            ty: column.ty.into(),
            values: known_values(chain, column.name),
        })
    }
}

impl From<ColumnType> for TypeAnswer {
    fn from(ty: ColumnType) -> Self {
        match ty {
            ColumnType::BigInt | ColumnType::Integer => Self::Integer,
            ColumnType::Boolean => Self::Boolean,
            ColumnType::Numeric { .. } => Self::Decimal,
            ColumnType::Text { .. } => Self::Text,
            ColumnType::Uuid => Self::Uuid,
            ColumnType::Inet => Self::Address,
            ColumnType::Timestamp => Self::Time,
            ColumnType::Document => Self::Document,
            ColumnType::Bytes => Self::Bytes,
        }
    }
}

/// What the chains consist of: their columns, and what their rows are filtered and grouped by. For
/// every key.
#[utoipa::path(get, path = "/v1/chains", tag = "rows",
    responses(
        (status = 200, description = "Every chain.", body = ChainsAnswer),
        RefusedParameter, RefusedWithoutKey),
    security(("api_key" = [])))]
pub(super) async fn describe(_: KeyHolder, _: NoParameters) -> Json<ChainsAnswer> {
    Json(ChainsAnswer { chains: IN_LEDGER.into_iter().map(ChainAnswer::of).collect() })
}
