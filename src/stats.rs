//! Counts and aggregates of rows in groups, as sums that further rows can be added to: what was
//! counted once is never counted again, since rows do not change.

use std::collections::{BTreeMap, HashMap};

use ledger_verifier::chain::{AI_DEBATES, SIGNAL_AUDIT_LEDGER};
use ledger_verifier::{Chain, decimal};
use serde_json::{Value as Json, json};

/// What is told of a chain's rows besides their number: of some of them, an average and the
/// percentiles of a time.
#[derive(Debug)]
pub(crate) struct Measure {
    /// Which rows `t` are measured, in SQL.
    pub(crate) of: &'static str,
    /// The column with the milliseconds.
    pub(crate) time: &'static str,
    /// The column that is averaged, of four fraction digits.
    pub(crate) averaged: &'static str,
    /// Whether they are acted upon, which later rows may say.
    pub(crate) acts: bool,
    /// The names of how many are measured and are not, where they are told, and of the average.
    names: (Option<&'static str>, &'static str, &'static str),
}

const OF_RECORDS: Measure = Measure {
    of: "t.record_type::text = 'SIGNAL'",
    time: "latency_ms",
    averaged: "conviction",
    acts: true,
    names: (Some("signals"), "outcomes", "conviction_avg"),
};
const OF_DEBATES: Measure = Measure {
    of: "NOT t.is_timeout",
    time: "elapsed_ms",
    averaged: "confidence_score",
    acts: false,
    names: (None, "timeouts", "confidence_score_avg"),
};
/// Of every average and share.
pub(crate) const FRACTION_DIGITS: u8 = 4;

impl Measure {
    /// What is measured on a chain.
    pub(crate) fn on(chain: &Chain) -> Option<&'static Self> {
        if chain.name == SIGNAL_AUDIT_LEDGER.name {
            Some(&OF_RECORDS)
        } else if chain.name == AI_DEBATES.name {
            Some(&OF_DEBATES)
        } else {
            None
        }
    }
}

/// The sums over one group's rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) count: i64,
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
    /// Of the rows that are measured: how many, the sum of what is averaged in units of its last
    /// fraction digit, how many were acted upon, and how many took so many milliseconds.
    pub(crate) measured: i64,
    pub(crate) total: i128,
    pub(crate) acted_upon: i64,
    pub(crate) times: BTreeMap<i32, i64>,
}

impl Sums {
    fn add(&mut self, more: Self) {
        if self.count == 0 {
            *self = more;
            return;
        }
        self.count += more.count;
        self.first_id = self.first_id.min(more.first_id);
        self.last_id = self.last_id.max(more.last_id);
        self.measured += more.measured;
        self.total += more.total;
        self.acted_upon += more.acted_upon;
        for (time, count) in more.times {
            *self.times.entry(time).or_default() += count;
        }
    }

    /// The smallest time that so many of a hundred measured rows do not exceed.
    fn percentile(&self, share: i64) -> Option<i32> {
        let count: i64 = self.times.values().sum();
        let place = ((share * count + 99) / 100).max(1);
        let mut seen = 0;
        let reached = self.times.iter().find(|(_, count)| {
            seen += **count;
            seen >= place
        });
        reached.map(|(time, _)| *time)
    }

    fn average(&self, units: i128) -> Option<String> {
        let count = i128::from(self.measured);
        // Half away from zero; neither a share nor what is averaged is below it.
        (count > 0).then(|| decimal::to_string((2 * units + count) / (2 * count), FRACTION_DIGITS))
    }

    fn to_json(&self, measure: Option<&Measure>) -> Json {
        let id = |id| (self.count > 0).then_some(id);
        let mut json = json!({
            "count": self.count, "first_id": id(self.first_id), "last_id": id(self.last_id),
        });
        let Some(measure) = measure else { return json };
        let (measured, others, average) = measure.names;
        if let Some(measured) = measured {
            json[measured] = self.measured.into();
        }
        json[others] = (self.count - self.measured).into();
        json[average] = self.average(self.total).into();
        if measure.acts {
            let whole = decimal::one(FRACTION_DIGITS);
            json["acted_upon"] = self.acted_upon.into();
            json["acted_upon_share"] = self.average(i128::from(self.acted_upon) * whole).into();
        }
        json[measure.time] = json!({
            "p50": self.percentile(50), "p95": self.percentile(95), "p99": self.percentile(99),
            "max": self.times.last_key_value().map(|(time, _)| *time),
        });
        json
    }
}

/// Groups of rows by what they have in common, as JSON spells it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(HashMap<String, Sums>);

impl Groups {
    /// Adds rows to a group.
    pub(crate) fn add(&mut self, group: String, more: Sums) {
        self.0.entry(group).or_default().add(more);
    }

    /// Adds the groups of other rows.
    pub(crate) fn add_all(&mut self, more: Self) {
        for (group, sums) in more.0 {
            self.add(group, sums);
        }
    }

    /// Whether there is this group.
    pub(crate) fn has(&self, group: &str) -> bool {
        self.0.contains_key(group)
    }

    /// So many more signals of these groups are acted upon now.
    pub(crate) fn act(&mut self, more: Vec<(String, i64)>) {
        for (group, more) in more {
            self.0.entry(group).or_default().acted_upon += more;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many numbers are kept, about.
    pub(crate) fn size(&self) -> usize {
        self.0.values().map(|sums| 8 + sums.times.len()).sum()
    }

    /// The first of the groups as JSON: in the order of their names, or the largest first.
    pub(crate) fn to_json(
        &self,
        measure: Option<&Measure>,
        largest_first: bool,
        limit: usize,
    ) -> Vec<(&str, Json)> {
        let mut groups: Vec<_> = self.0.iter().collect();
        groups.sort_unstable_by(|(name, sums), (other_name, others)| {
            let by_count = others.count.cmp(&sums.count);
            if largest_first { by_count.then(name.cmp(other_name)) } else { name.cmp(other_name) }
        });
        let first = groups.into_iter().take(limit);
        first.map(|(name, sums)| (name.as_str(), sums.to_json(measure))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let times = |times: &[(i32, i64)]| Sums {
            times: times.iter().copied().collect(),
            ..Sums::default()
        };
        assert_eq!(times(&[]).percentile(50), None);
        let hundred: Vec<_> = (1..=100).map(|time| (time, 1)).collect();
        for (share, time) in [(50, 50), (95, 95), (99, 99)] {
            assert_eq!(times(&hundred).percentile(share), Some(time));
        }
        assert_eq!(times(&[(-3, 1)]).percentile(50), Some(-3));
        assert_eq!(times(&[(1, 99), (7, 2)]).percentile(99), Some(7));
    }
}
