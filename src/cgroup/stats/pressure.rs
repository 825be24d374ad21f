//! `*.pressure` of v2 ([PSI](https://docs.kernel.org/accounting/psi.html)).

use serde::Serialize;

use super::{CgroupError, Counters};

/// How long processes waited for something.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one of them.
    pub some: PressureAverages,
    /// All at the same time.
    pub full: PressureAverages,
}

/// Shares of time in percent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PressureAverages {
    /// Of the last 10 seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

/// `None`: the kernel counts none, or v1.
pub(super) fn read(counters: &Counters, name: &str) -> Result<Option<Pressure>, CgroupError> {
    if !counters.v2 {
        return Ok(None);
    }
    let Some(text) = counters.text(name)? else { return Ok(None) };
    parse(&text).map(Some).ok_or_else(|| counters.malformed(name, &text))
}

pub(super) fn parse(text: &str) -> Option<Pressure> {
    let mut all = Pressure::default();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let averages = match fields.next()? {
            "some" => &mut all.some,
            "full" => &mut all.full,
            _ => continue,
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "avg10" => averages.avg10 = value.parse().ok()?,
                "avg60" => averages.avg60 = value.parse().ok()?,
                "avg300" => averages.avg300 = value.parse().ok()?,
                "total" => averages.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    Some(all)
}
