//! What earlier containers have left in the state directory.

use crate::container::lock::Lock;
use crate::container::state::{Container, Status};
use crate::container::store::{Store, StoreError};
use crate::finding::Finding;

/// Looks at every container that is remembered.
#[must_use]
pub fn check(store: &Store) -> Vec<Finding> {
    let ids = match store.ids() {
        Ok(ids) => ids,
        Err(StoreError::Io { source, path, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            let found = format!("{} may be read by root only", path.display());
            return vec![Finding::unseen("containers", found, "sudo gpurun doctor")];
        }
        Err(error) => {
            return vec![Finding::red(
                "containers",
                error.to_string(),
                "correct the directory's owner and mode, or choose another with --root",
            )];
        }
    };
    let mut findings = Vec::new();
    let mut well = 0;
    for id in &ids {
        match Container::load(store, id) {
            // Nobody is at work on it: its `create` was killed before it came to a process.
            Ok(container)
                if container.status() == Status::Creating
                    && Lock::try_take(&container.dir).is_ok() =>
            {
                findings.push(left(id.as_str(), "was never finished"));
            }
            Ok(_) => well += 1,
            Err(error) => findings.push(left(id.as_str(), &error.to_string())),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::green("containers", format!("{well}, none of them unfinished")));
    }
    findings
}

fn left(id: &str, found: &str) -> Finding {
    let found = if found.contains(id) { found.to_owned() } else { format!("{id} {found}") };
    Finding::yellow(
        "containers",
        found,
        format!("gpurun delete --force {id} (with the --root of whoever created it)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;
    use crate::node::doctor::testing::{all_green, expect};

    #[test]
    fn containers_that_were_never_finished_or_are_damaged_are_named() {
        let files = Scratch::new();
        let store = Store::new(files.path().to_owned());
        all_green(&check(&store));
        files.directory("half");
        files.write("broken/state.json", "{");
        let found = check(&store);
        expect(&found, "containers", "yellow", "half", "delete --force half");
        expect(&found, "containers", "yellow", "broken", "delete --force broken");
        std::fs::remove_dir_all(files.path().join("half")).unwrap();
        std::fs::remove_dir_all(files.path().join("broken")).unwrap();
        all_green(&check(&store));
    }

    #[test]
    fn a_state_directory_that_is_none_is_red() {
        let files = Scratch::new();
        files.write("file", "");
        let found = check(&Store::new(files.path().join("file")));
        expect(&found, "containers", "red", "", "--root");
    }
}
