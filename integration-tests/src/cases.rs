//! A test program whose cases share one expensive thing, such as an engine's daemon.
//!
//! Rust's own harness runs each test on a thread of its own and never drops statics, so a
//! daemon shared by its tests would outlive them. Here the program's main thread owns the
//! daemon (which dies with that thread) and runs the cases one after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A named case. It panics when something is not as it should be.
pub type Case<T> = (&'static str, fn(&T));

/// The cases that the command line asks for: all, or those whose name contains an argument.
/// `--list` prints the names and leaves nothing to run.
pub fn selected<T>(cases: &[Case<T>]) -> Vec<Case<T>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen: Vec<Case<T>> = cases
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())))
        .copied()
        .collect();
    if args.iter().any(|a| a == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return Vec::new();
    }
    chosen
}

/// Runs the cases and reports them as Rust's harness does.
pub fn run<T>(cases: &[Case<T>], shared: &T) -> ExitCode {
    println!("\nrunning {} tests", cases.len());
    // Where and why; a backtrace says nothing more about a container.
    std::panic::set_hook(Box::new(|info| println!("{info}")));
    let mut failed = Vec::new();
    for (name, case) in cases {
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| case(shared))) {
            Ok(()) => println!("test {name} ... ok ({:.1?})", start.elapsed()),
            Err(_) => {
                println!("test {name} ... FAILED ({:.1?})", start.elapsed());
                failed.push(*name);
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = cases.len() - failed.len();
    println!("\ntest result: {verdict}. {passed} passed; {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
