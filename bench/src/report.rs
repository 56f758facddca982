//! What was measured, beside what it is compared with and what it ought to be.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::Error;
use crate::machine::{Machine, median};

/// What a figure ought to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At least so many times its baseline.
    RatioAtLeast(f64),
    /// At most so many times its baseline.
    RatioAtMost(f64),
    /// Below this, in its unit.
    Below(f64),
    /// This or more, in its unit.
    AtLeast(f64),
}

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// The median of the runs, as the baseline.
    pub(crate) value: f64,
    pub(crate) baseline: Option<f64>,
    /// What the baseline is.
    pub(crate) beside: &'static str,
    /// The median of the paired runs' ratios: that of the medians would pair what was not.
    pub(crate) ratio: Option<f64>,
    pub(crate) goal: Option<String>,
    pub(crate) reached: Option<bool>,
    /// Whatever else there is to know.
    pub(crate) details: Json,
}

impl Figure {
    /// A figure that stands alone.
    pub(crate) fn alone(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            value,
            baseline: None,
            beside: "",
            ratio: None,
            goal: None,
            reached: None,
            details: Json::Null,
        }
    }

    /// A figure and its baseline, of paired runs.
    pub(crate) fn paired(
        name: impl Into<String>,
        unit: &'static str,
        runs: &[f64],
        beside: &'static str,
        baselines: &[f64],
    ) -> Self {
        let mut ratios: Vec<_> = runs.iter().zip(baselines).map(|(run, base)| run / base).collect();
        Self {
            baseline: Some(median(&mut baselines.to_vec())),
            beside,
            ratio: Some(median(&mut ratios)),
            details: json!({ "runs": runs, "baselines": baselines }),
            ..Self::alone(name, unit, median(&mut runs.to_vec()))
        }
    }

    /// With a goal, where it has one.
    pub(crate) fn with_goal(mut self, goal: impl Into<Option<Goal>>) -> Self {
        let Some(goal) = goal.into() else { return self };
        let (text, reached) = match goal {
            Goal::RatioAtLeast(bound) => {
                (format!(">= {bound} x"), self.ratio.is_some_and(|it| it >= bound))
            }
            Goal::RatioAtMost(bound) => {
                (format!("<= {bound} x"), self.ratio.is_some_and(|it| it <= bound))
            }
            Goal::Below(bound) => (format!("< {bound} {}", self.unit), self.value < bound),
            Goal::AtLeast(bound) => (format!(">= {bound} {}", self.unit), self.value >= bound),
        };
        (self.goal, self.reached) = (Some(text), Some(reached));
        self
    }

    pub(crate) fn with_details(mut self, details: Json) -> Self {
        match (&mut self.details, details) {
            (Json::Object(all), Json::Object(more)) => all.extend(more),
            (all, details) => *all = details,
        }
        self
    }
}

/// Digits enough to compare, and no more.
fn shown(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else if value >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// The table for people.
pub(crate) fn table(machine: &Machine, figures: &[Figure]) -> String {
    let mut text = format!("{machine}\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:<56}{:>10} {:<7}{:>10}{:>8}  {:<10} beside",
        "figure", "measured", "unit", "baseline", "x", "goal"
    );
    for figure in figures {
        let baseline = figure.baseline.map(shown).unwrap_or_default();
        let ratio = figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let goal = figure.goal.as_deref().unwrap_or("");
        let reached = match figure.reached {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        };
        let _ = writeln!(
            text,
            "{:<56}{:>10} {:<7}{baseline:>10}{ratio:>8}  {goal:<10} {reached:<8}{}",
            figure.name,
            shown(figure.value),
            figure.unit,
            figure.beside
        );
    }
    text
}

/// Writes everything as JSON.
pub(crate) fn write(path: &Path, machine: &Machine, figures: &[Figure]) -> Result<(), Error> {
    let command: Vec<_> = std::env::args().collect();
    let all = json!({ "command": command.join(" "), "machine": machine, "figures": figures });
    std::fs::write(path, format!("{all:#}\n"))?;
    Ok(())
}
