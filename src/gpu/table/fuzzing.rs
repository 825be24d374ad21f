//! The table of vendors in the configuration, and the lists of their variables.

use super::config::Config;
use super::entry::{Pattern, SUFFIX, below_dev};
use super::{is_known, selection};
use crate::fuzzing::{Target, text};
use crate::gpu::tables;
use crate::host::Settings;

pub(crate) const TARGETS: &[Target] = &[Target { name: "vendor_table", run: vendor_table }];

/// A list, and behind its line the configuration.
fn vendor_table(data: &[u8]) {
    let (list, config) = text(data).split_once('\n').unwrap_or((text(data), ""));
    let settings = Settings::parse("/c.toml".as_ref(), config.to_owned(), &tables());
    let config = settings
        .map_err(|error| error.to_string())
        .and_then(|settings| Config::read(&settings).map_err(|error| error.to_string()));
    let config = match config {
        Ok(config) => config,
        Err(error) => return assert!(!error.contains('\n'), "an error of two lines: {error}"),
    };
    let items = selection(list).map(|devices| devices.words()).unwrap_or_default();
    for entry in &config.entries {
        assert!(entry.variable.ends_with(SUFFIX) && !is_known(&entry.variable));
        assert!(entry.common.iter().all(|name| below_dev(&format!("/dev/{name}")).is_some()));
        for item in &items {
            let Some(indexes) = entry.indexes(item) else { continue };
            assert!((1..=128).contains(&indexes.len()));
            assert!(indexes.is_sorted_by(|one, next| *next == one + 1), "{indexes:?}");
            for pattern in &entry.devices {
                is_reversible(pattern, indexes[0]);
            }
        }
    }
}

/// The name of a node says which index it has.
fn is_reversible(pattern: &Pattern, index: u32) {
    let path = pattern.with(index);
    assert!(below_dev(&format!("/dev/{path}")).is_some(), "{path}");
    let name = path.rsplit('/').next().unwrap_or_default();
    assert_eq!(pattern.index(name), Some(index), "{path}");
}
