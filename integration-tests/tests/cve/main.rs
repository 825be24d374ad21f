//! One test for each hole that a container runtime or NVIDIA's toolkit once had, named after it.
//!
//! Each arranges what the attacker arranged, with canaries on the host; asserts that the attacker
//! does not get what the hole gave, and what the user gets instead. `docs/security.md` has the table;
//! a test here holds it and these tests against each other.
//!
//! | file | holes |
//! |---|---|
//! | `binary` | the runtime's own program is overwritten |
//! | `proc_and_sys` | /proc or /sys is something else than it seems |
//! | `mount_targets` | a place in the image leads out of it |
//! | `processes` | a process gets more than it should |
//! | `requests` | who may ask for what |
//! | `gpu` | NVIDIA's toolkit |
//! | `gpu_links` | its links, where the image has their names |
//! | `gpu_volumes` | what it reads in volumes and images |
//! | `teeth` | the attackers of these tests win where there is a hole |

mod binary;
mod gpu;
mod gpu_links;
mod gpu_volumes;
mod mount_targets;
mod proc_and_sys;
mod processes;
mod requests;
mod teeth;

use integration_tests::canary::{Canary, assert_no_mount_at};
use integration_tests::{Config, Container, Output, rootfs, skipped};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A container of a hostile image, and what it must not touch.
struct Scene {
    container: Container,
    canary: Canary,
}

impl Scene {
    fn new(config: Config) -> Scene {
        let container = Container::native(config);
        let canary = Canary::new(container.path("canary"));
        Scene { container, canary }
    }

    /// A path in the image.
    fn at(&self, name: &str) -> PathBuf {
        self.container.rootfs().join(name)
    }

    /// Takes away what the image has there, and makes its parents.
    fn clear(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        rootfs::clear(&path);
        path
    }

    /// Puts a link there.
    fn link(&self, name: &str, target: impl AsRef<Path>) {
        symlink(target, self.clear(name)).unwrap();
    }

    /// Creates the container, starts it where that succeeded, and deletes it. At each step nothing
    /// of the host has changed.
    #[track_caller]
    fn created(&self) -> Output {
        let output = self.container.create();
        self.assert_safe();
        if output.code == 0 {
            self.container.start();
            self.assert_safe();
        } else {
            output.refused(1, &[]);
        }
        self.container.delete(&["--force"]).ok();
        self.container.assert_gone();
        self.assert_safe();
        output
    }

    /// As `created`, of a container that must be refused with these words.
    #[track_caller]
    fn refused(&self, phrases: &[&str]) {
        self.created().refused(1, phrases);
    }

    #[track_caller]
    fn assert_safe(&self) {
        self.canary.assert_untouched();
        assert_no_mount_at(self.container.id());
    }
}

/// Every row of the table has its test and every test its row.
#[test]
fn the_table_in_the_security_model_names_every_test() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(document) = fs::read_to_string(own.join("../docs/security.md")) else {
        return skipped("gpurun's sources are not on this machine");
    };
    let mut tests = Vec::new();
    for entry in fs::read_dir(own.join("tests/cve")).unwrap().flatten() {
        let source = fs::read_to_string(entry.path()).unwrap();
        let names = source.lines().filter_map(|line| line.strip_prefix("fn cve_"));
        tests.extend(names.filter_map(|name| Some(format!("cve_{}", name.split('(').next()?))));
    }
    assert!(tests.len() > 20, "{tests:?}");
    for test in &tests {
        assert!(document.contains(&format!("`{test}`")), "docs/security.md lacks {test}");
    }
    for named in document.split('`').filter(|text| text.starts_with("cve_")) {
        assert!(tests.iter().any(|test| test == named), "no test {named}");
    }
}
