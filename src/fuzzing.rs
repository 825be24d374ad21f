//! What must hold for any bytes from outside: the properties that the fuzzer tries to break.
//!
//! Compiled for tests and for `fuzz/` only. A property stands beside the code that it is about, in
//! a file `fuzzing.rs` of that folder; here is the list of them, and what they share. `hack/fuzz`
//! looks for inputs that break one; `cargo test` tries the inputs that are kept in `fuzz/corpus`,
//! among them each that once did.

use crate::{cgroup, commands, container, gpu, host, init, node, seccomp};

/// A reader of foreign bytes, and what it must never do.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its directory in `fuzz/corpus`.
    pub name: &'static str,
    /// Panics when the property does not hold for these bytes.
    pub run: fn(&[u8]),
}

/// Every target.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    [
        cgroup::fuzzing::TARGETS,
        cgroup::devices::fuzzing::TARGETS,
        cgroup::systemd::fuzzing::TARGETS,
        commands::fuzzing::TARGETS,
        container::fuzzing::TARGETS,
        gpu::fuzzing::TARGETS,
        gpu::amd::fuzzing::TARGETS,
        gpu::cdi::fuzzing::TARGETS,
        gpu::loader::fuzzing::TARGETS,
        gpu::nvidia::fuzzing::TARGETS,
        gpu::table::fuzzing::TARGETS,
        host::fuzzing::TARGETS,
        init::fuzzing::TARGETS,
        node::fuzzing::TARGETS,
        node::engine::fuzzing::TARGETS,
        seccomp::fuzzing::TARGETS,
    ]
    .into_iter()
    .flatten()
}

/// The bytes as text, as far as they are.
pub(crate) fn text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// Bytes that stand for numbers and choices; 0 when there are none left.
#[derive(Debug, Clone)]
pub(crate) struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// Whether all are used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// The next eight bytes.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// One of several.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// The next few bytes, as many as the next byte says.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn corpus() -> impl Iterator<Item = std::path::PathBuf> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path())
    }

    #[test]
    fn every_property_holds_for_the_inputs_that_are_kept() {
        for target in targets() {
            for bytes in [&b""[..], b"\0", b"\xff\xff\xff\xff", &[b'a'; 64]] {
                (target.run)(bytes);
            }
            let directory = corpus().find(|path| path.file_name() == Some(target.name.as_ref()));
            for entry in directory.iter().flat_map(|path| std::fs::read_dir(path).unwrap()) {
                let path = entry.unwrap().path();
                println!("{}", path.display());
                (target.run)(&std::fs::read(path).unwrap());
            }
        }
    }

    #[test]
    fn every_target_has_inputs_and_no_others_are_kept() {
        let name = |path: std::path::PathBuf| path.file_name()?.to_str().map(str::to_owned);
        let kept: BTreeSet<String> = corpus().filter_map(name).collect();
        let wanted: BTreeSet<String> = targets().map(|target| target.name.to_owned()).collect();
        assert_eq!(kept, wanted);
        assert_eq!(wanted.len(), targets().count(), "two targets have one name");
    }
}
