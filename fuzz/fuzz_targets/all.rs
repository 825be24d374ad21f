//! libFuzzer's entry for every target; `FUZZ_TARGET` names the one to run.

#![no_main]

mod heap;

use std::sync::LazyLock;

use gpurun::fuzzing::{self, Target};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// What an input of a few bytes may take of memory, and what every further byte may.
const LIMIT: usize = 16 << 20;
const LIMIT_PER_BYTE: usize = 1024;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    fuzzing::targets().find(|target| target.name == wanted).unwrap_or_else(|| {
        fuzzing::targets().for_each(|target| println!("{}", target.name));
        std::process::exit(i32::from(!wanted.is_empty()))
    })
});

fuzz_target!(init: { LazyLock::force(&TARGET); }, |data: &[u8]| {
    let target = *TARGET;
    let before = heap::restart();
    (target.run)(data);
    let used = heap::peak() - before;
    let limit = LIMIT + LIMIT_PER_BYTE * data.len();
    assert!(used <= limit, "{} bytes took {used} bytes of memory", data.len());
});
