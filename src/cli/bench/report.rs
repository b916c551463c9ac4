//! A measurement as `opa bench` reports it: a table, JSON, or a line of the Go Benchmark Data Format.

use std::{fmt::Write as _, time::Duration};

/// One measurement.
#[derive(Debug)]
pub(super) struct Run {
    total: Duration,
    /// Nanoseconds, sorted; never empty.
    samples: Vec<f64>,
}

const PREFIX: &str = "histogram_timer_rego_query_eval_ns_";

// === impl Run ===

impl Run {
    pub(super) fn new(total: Duration, samples: Vec<Duration>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().map(|sample| sample.as_secs_f64() * 1e9).collect();
        samples.sort_by(f64::total_cmp);
        Self { total, samples }
    }

    pub(super) fn table(&self, percentiles: bool) -> String {
        let mut rows = vec![("samples".to_owned(), self.count()), ("ns/op".to_owned(), self.per_run())];
        if percentiles {
            rows.extend(self.figures());
        }
        let rows: Vec<(String, String)> = rows.into_iter().map(|(name, value)| (name, format!("{value:.0}"))).collect();
        let width = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or_default();
        let left = width(&mut rows.iter().map(|(name, _)| name.len()));
        let right = width(&mut rows.iter().map(|(_, value)| value.len()));
        let rule = |[start, middle, end]: [&str; 3]| {
            format!("{start}{}{middle}{}{end}\n", "─".repeat(left + 2), "─".repeat(right + 2))
        };
        let mut text = rule(["┌", "┬", "┐"]);
        for (name, value) in rows {
            let _ = writeln!(text, "│ {name:left$} │ {value:>right$} │");
        }
        text + &rule(["└", "┴", "┘"])
    }

    pub(super) fn json(&self, percentiles: bool) -> String {
        let mut text = format!("{{\n  \"N\": {},\n  \"T\": {}", self.samples.len(), self.total.as_nanos());
        if percentiles {
            let figures = self.figures();
            let figures: Vec<String> = figures.iter().map(|(name, value)| format!("    \"{name}\": {value}")).collect();
            let _ = write!(text, ",\n  \"Extra\": {{\n{}\n  }}", figures.join(",\n"));
        }
        text + "\n}\n"
    }

    /// Under OPA's name, so that benchstat puts the two beside each other.
    pub(super) fn line(&self, percentiles: bool) -> String {
        let mut text = format!("BenchmarkOPAEval\t{:8}\t{} ns/op", self.samples.len(), figure(self.per_run()));
        if percentiles {
            for (name, value) in self.figures() {
                let _ = write!(text, "\t{} {name}", figure(value));
            }
        }
        text + "\n"
    }

    fn count(&self) -> f64 {
        u32::try_from(self.samples.len()).map_or(f64::INFINITY, f64::from)
    }

    fn per_run(&self) -> f64 {
        self.total.as_secs_f64() * 1e9 / self.count()
    }

    /// In the order of their names.
    fn figures(&self) -> Vec<(String, f64)> {
        let mean = self.samples.iter().sum::<f64>() / self.count();
        let variance = self.samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / self.count();
        let at = |percent: f64| percentile(&self.samples, percent / 100.0);
        [
            ("75%", at(75.0)),
            ("90%", at(90.0)),
            ("95%", at(95.0)),
            ("99%", at(99.0)),
            ("99.9%", at(99.9)),
            ("99.99%", at(99.99)),
            ("count", self.count()),
            ("max", self.samples.last().copied().unwrap_or_default()),
            ("mean", mean),
            ("median", at(50.0)),
            ("min", self.samples.first().copied().unwrap_or_default()),
            ("stddev", variance.sqrt()),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), value))
        .collect()
    }
}

/// Between the two samples around the place of a fraction.
fn percentile(samples: &[f64], fraction: f64) -> f64 {
    let mut place = fraction;
    place *= u32::try_from(samples.len()).map_or(f64::INFINITY, f64::from) + 1.0;
    let below = samples.iter().zip(1_u32..).take_while(|(_, number)| f64::from(*number) <= place).last();
    let Some((low, number)) = below else { return samples.first().copied().unwrap_or_default() };
    let high = usize::try_from(number).ok().and_then(|number| samples.get(number)).unwrap_or(low);
    low + (place - f64::from(number)) * (high - low)
}

/// A figure as Go's benchmarks align it: the fewer digits before the point, the more behind it.
fn figure(value: f64) -> String {
    match value {
        v if v == 0.0 || v >= 999.95 => format!("{v:10.0}"),
        v if v >= 99.995 => format!("{v:12.1}"),
        v if v >= 9.9995 => format!("{v:13.2}"),
        v if v >= 0.99995 => format!("{v:14.3}"),
        v => format!("{v:15.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stand_between_samples() {
        let samples = [10.0, 20.0, 30.0, 40.0];
        for (fraction, want) in [(0.0, 10.0), (0.5, 25.0), (0.75, 37.5), (0.99, 40.0), (1.0, 40.0)] {
            assert!((percentile(&samples, fraction) - want).abs() < 1e-9, "{fraction}");
        }
        assert!(percentile(&[], 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_run_is_reported_in_each_shape() {
        let run = Run::new(Duration::from_micros(6), [2, 1, 3].map(Duration::from_micros).to_vec());
        assert_eq!(
            run.table(false),
            "┌─────────┬──────┐\n│ samples │    3 │\n│ ns/op   │ 2000 │\n└─────────┴──────┘\n"
        );
        assert_eq!(run.json(false), "{\n  \"N\": 3,\n  \"T\": 6000\n}\n");
        assert_eq!(run.line(false), "BenchmarkOPAEval\t       3\t      2000 ns/op\n");
        let figures = run.figures();
        let of = |name: &str| figures.iter().find(|(known, _)| known.ends_with(name)).unwrap().1;
        assert!((of("_median") - 2000.0).abs() < 1e-6 && (of("_max") - 3000.0).abs() < 1e-6);
        assert!(run.json(true).contains("\"histogram_timer_rego_query_eval_ns_count\": 3,"));
    }
}
