//! Arithmetic on measurements.

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss)] // No count of a benchmark comes near 2^52.
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

/// Measurements, in order.
#[derive(Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that `percent` of all do not exceed; not a number without any measurement.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sample = Sample::new((1..=200).rev().map(f64::from).collect());
        assert_eq!((sample.percentile(50), sample.percentile(99)), (100.0, 198.0));
        assert_eq!((sample.least(), sample.most(), sample.len()), (1.0, 200.0, 200));
        assert!(Sample::default().percentile(50).is_nan());
    }
}
