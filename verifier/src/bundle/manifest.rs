//! What a bundle says it is. Nobody signs the manifest: what it says is compared with the rest, and
//! what cannot be is told apart in the report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chain;
use crate::hash::RowId;
use crate::json::ExportedRow;
use crate::row::INTEGER_BOUND;
use crate::text;

use super::{FILES, FORMAT, MANIFEST_FILE};

/// The manifest, in the order in which it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// The chain's name.
    pub chain: String,
    /// The range that was asked for.
    pub filter: RangeFilter,
    /// Rows in it.
    pub rows: u64,
    /// The id of the first of them.
    pub first_id: Option<i64>,
    /// The id of the last of them.
    pub last_id: Option<i64>,
    /// The log's origin, as in the checkpoint.
    pub origin: String,
    /// How often the log began anew, counted from 1; the origin says the same.
    pub incarnation: u64,
    /// The checkpoint's size.
    pub tree_size: u64,
    /// Whose bundle it is, not empty. Proved by nothing.
    pub requested_by: String,
    /// When it was made, as a row's JSON spells a time. Proved by nothing.
    pub made_at: String,
    /// What made it, not empty. Proved by nothing.
    pub tool: String,
    /// The lowercase hex SHA-256 of every other file.
    pub files: BTreeMap<String, String>,
}

/// The bounds that were given, of those that a bundle can have: a range of a chain, without holes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeFilter {
    /// The lowest id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_id: Option<i64>,
    /// The highest id, which is in the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_id: Option<i64>,
    /// The earliest `created_at`, as a row's JSON spells a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The first `created_at` behind the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// The bounds of a filter, its times in microseconds since 1970. Since `created_at` never decreases
/// along a chain, the rows within them stand next to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The lowest id.
    pub from_id: Option<i64>,
    /// The highest id, which is in the range.
    pub to_id: Option<i64>,
    /// The earliest `created_at`.
    pub from: Option<i64>,
    /// The first `created_at` behind the range.
    pub to: Option<i64>,
}

impl Range {
    /// Whether a row stands before everything in the range.
    pub fn begins_behind(&self, id: RowId, created_at: i64) -> bool {
        self.from_id.is_some_and(|from| id.0 < from)
            || self.from.is_some_and(|from| created_at < from)
    }

    /// Whether a row, and so every later one, stands behind everything in the range.
    pub fn ends_before(&self, id: RowId, created_at: i64) -> bool {
        self.to_id.is_some_and(|to| id.0 > to) || self.to.is_some_and(|to| created_at >= to)
    }

    /// Whether a row is in the range.
    pub fn contains(&self, row: &ExportedRow) -> bool {
        !self.begins_behind(row.id, row.created_at) && !self.ends_before(row.id, row.created_at)
    }

    /// Whether no row behind this one can be in the range.
    pub fn ends_with(&self, id: RowId, created_at: i64) -> bool {
        self.to_id.is_some_and(|to| id.0 >= to) || self.to.is_some_and(|to| created_at >= to)
    }
}

/// Why a manifest cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not a JSON object with exactly the members of a [`Manifest`].
    #[error("the manifest is malformed: {0}")]
    Json(String),
    /// What was read would be written otherwise: a member twice or in another place, other white
    /// space.
    #[error("the manifest is not spelt as this format spells it")]
    Spelling,
}

impl Manifest {
    /// The one spelling: indented by two spaces, members in their order, a newline at the end.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("text, numbers and maps of text");
        json + "\n"
    }

    /// Reads what [`Self::to_json`] writes. What it says is believed by nobody.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| ManifestError::Json(error.to_string()))?;
        if manifest.to_json().as_bytes() == json {
            Ok(manifest)
        } else {
            Err(ManifestError::Spelling)
        }
    }

    /// What is wrong with the manifest by itself.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut require = |is_right: bool, fault: &str| {
            if !is_right {
                faults.push(fault.to_owned());
            }
        };
        require(self.format == FORMAT, &format!("format is not {FORMAT}"));
        require(chain::by_name(&self.chain).is_some(), "chain is none of this format's");
        require(self.filter.range().is_some(), "a bound of filter is malformed");
        require(
            self.incarnation == incarnation_of(&self.origin),
            "incarnation is not that of origin",
        );
        require(text::parse_timestamp(&self.made_at).is_some(), "made_at is no time");
        require(!self.requested_by.is_empty(), "requested_by is empty");
        require(!self.tool.is_empty(), "tool is empty");
        let is_known = |name: &String| name != MANIFEST_FILE && FILES.contains(&name.as_str());
        require(self.files.keys().all(is_known), "files names one that no bundle has");
        faults
    }
}

impl RangeFilter {
    /// The bounds as numbers; `None` where one is not spelt as a row spells it.
    pub fn range(&self) -> Option<Range> {
        let is_id =
            |id: &Option<i64>| id.is_none_or(|id| id.unsigned_abs() < INTEGER_BOUND.unsigned_abs());
        if !is_id(&self.from_id) || !is_id(&self.to_id) {
            return None;
        }
        let time = |text: &Option<String>| match text {
            Some(text) => text::parse_timestamp(text).map(Some),
            None => Some(None),
        };
        let (from_id, to_id) = (self.from_id, self.to_id);
        Some(Range { from_id, to_id, from: time(&self.from)?, to: time(&self.to)? })
    }
}

/// Which incarnation of a log has this origin: n for `…/in` from 2 on, else the first.
pub fn incarnation_of(origin: &str) -> u64 {
    let number = origin.rsplit_once("/i").and_then(|(_, digits)| {
        digits.parse::<u64>().ok().filter(|number| *number > 1 && number.to_string() == digits)
    });
    number.unwrap_or(1)
}
