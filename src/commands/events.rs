//! `gpurun events`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::output;
use crate::cli::Global;
use crate::container::events::{self, Event};

/// Longer than any container lives, and short enough to be added to a clock.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Print what a container uses, and when it runs out of memory, as JSON lines.
#[derive(Debug, Args)]
pub struct Events {
    /// How often, such as 500ms or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", allow_hyphen_values = true)]
    interval: String,
    /// Print what it uses now, and end
    #[arg(long)]
    stats: bool,
    /// The container's id
    id: String,
}

impl Events {
    /// Prints until the container ends, or once.
    ///
    /// # Errors
    /// The container does not run, or nobody reads any more.
    pub fn run(self, global: &Global) -> Result<()> {
        let interval = parse_duration(&self.interval)
            .with_context(|| format!("invalid value {:?} for flag -interval", self.interval))?;
        let container = super::load(global, &self.id)?;
        if interval.is_zero() {
            bail!("duration interval must be greater than 0");
        }
        if self.stats {
            return print(&events::stats(&container)?);
        }
        events::follow(&container, interval, print)
    }
}

fn print(event: &Event<'_>) -> Result<()> {
    let mut line = serde_json::to_string(event).context("cannot print the event")?;
    line.push('\n');
    output::print(&line)
}

/// A duration as Go writes it: numbers with units, such as `1h30m` or `1.5s`. Negative ones, which
/// nobody can wait for, are 0.
pub(super) fn parse_duration(text: &str) -> Result<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        bail!("use a number with a unit, such as 5s");
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => bail!("use a number with a unit: ns, us, ms, s, m or h"),
        };
        let number: f64 = number.parse().ok().context("use a number with a unit, such as 5s")?;
        sum += number * seconds;
        rest = after;
    }
    if negative {
        return Ok(Duration::ZERO);
    }
    Ok(Duration::try_from_secs_f64(sum).map_or(LONGEST, |duration| duration.min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_go_writes_them() {
        let known = [
            ("5s", 5000),
            ("100ms", 100),
            ("1.5s", 1500),
            ("1h1m1s1ms", 3_661_001),
            ("0", 0),
            ("-3s", 0),
        ];
        for (text, milliseconds) in known {
            assert_eq!(parse_duration(text).expect(text), Duration::from_millis(milliseconds));
        }
        assert_eq!(parse_duration("99999999999999h").expect("long"), LONGEST);
        for bad in ["", "5", "s", "5 s", "1x", "1..5s", "abc", "-"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
