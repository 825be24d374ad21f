//! `unified`: files of cgroup v2 by name.

use std::collections::{BTreeMap, HashMap};

use super::{CgroupError, Knobs, Mode, invalid};
use crate::cgroup::file;

pub(super) fn set(
    mode: Mode,
    knobs: &Knobs,
    unified: &HashMap<String, String>,
) -> Result<(), CgroupError> {
    if unified.is_empty() {
        return Ok(());
    }
    if mode != Mode::V2 {
        return Err(invalid("unified", "cannot use unified on cgroup v1"));
    }
    let dir = knobs.dir()?;
    // Sorted, so that the same spec always gives the same first error.
    for (key, value) in unified.iter().collect::<BTreeMap<_, _>>() {
        let controller = controller(key)?;
        // Some files take one line per write (`io.max`).
        for line in value.split('\n').filter(|line| !line.is_empty()) {
            file::write(dir, key, line).map_err(|err| explain(knobs, controller, key, err))?;
        }
    }
    Ok(())
}

/// The controller that a key belongs to; the key must be the name of a file in this cgroup.
fn controller(key: &str) -> Result<&str, CgroupError> {
    let field = || format!("unified {key:?}");
    if key.contains('/') || key.contains('\0') {
        return Err(invalid(field(), "it must be a file name (no slashes)"));
    }
    match key.split_once('.') {
        Some((controller, file)) if !controller.is_empty() && !file.is_empty() => Ok(controller),
        _ => Err(invalid(field(), "it must be in the form CONTROLLER.PARAMETER")),
    }
}

/// Names the controller where that is why the file is not there.
fn explain(knobs: &Knobs, controller: &str, key: &str, err: CgroupError) -> CgroupError {
    let missing = err.is_absent() || err.is_permission();
    let enabled = knobs.read("cgroup.controllers").unwrap_or_default();
    let known =
        controller == "cgroup" || enabled.split_ascii_whitespace().any(|name| name == controller);
    if missing && !known {
        let reason = format!("controller {controller:?} is not available");
        return invalid(format!("unified {key:?}"), reason);
    }
    err
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_a_file_of_a_controller_is_refused() {
        assert_eq!(controller("memory.high").unwrap(), "memory");
        for bad in ["memory/../x.y", "/a.b", "memory", ".", "..", ".x", "x.", "a\0.b"] {
            assert!(controller(bad).is_err(), "{bad:?}");
        }
    }
}
