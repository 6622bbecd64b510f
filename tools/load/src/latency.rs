//! Latency histograms, and how they travel between processes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency told apart, nanoseconds; what takes longer counts as this.
const NS_MAX: u64 = 120_000_000_000;

/// A histogram of nanoseconds with three significant digits.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

/// A histogram on its way: value in nanoseconds, count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts(Vec<(u64, u64)>);

impl Counts {
    /// Adds others; the same value may stand in it twice.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// What people and scripts read, microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, NS_MAX, 3).expect("the bounds are constants that fit");
        Self(histogram)
    }

    /// Counts one value.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// Adds another process's values.
    pub(crate) fn merge(&mut self, counts: &Counts) {
        for (ns, count) in &counts.0 {
            self.0.saturating_record_n(*ns, *count);
        }
    }

    /// Takes what was counted and starts anew.
    pub(crate) fn take(&mut self) -> Counts {
        let counts = self.0.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value()));
        let counts = Counts(counts.collect());
        self.0.reset();
        counts
    }

    /// The quantiles.
    pub(crate) fn summary(&self) -> Summary {
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        Summary {
            count: self.0.len(),
            min: us(self.0.min()),
            mean: us(self.0.mean() as u64),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_two_processes_add_up() {
        let (mut one, mut two, mut both) = (Latency::new(), Latency::new(), Latency::new());
        (1..=500).for_each(|us| one.record(us * 1_000));
        (501..=1_000).for_each(|us| two.record(us * 1_000));
        both.merge(&one.take());
        both.merge(&two.take());
        let summary = both.summary();
        assert_eq!((summary.count, one.summary().count), (1_000, 0));
        assert!(
            (495.0..505.0).contains(&summary.p50) && (985.0..995.0).contains(&summary.p99),
            "{summary:?}"
        );
    }
}
