//! Which commit `gpurun --version` names: that of `GPURUN_COMMIT`, else that of the working copy.
//!
//! Nothing but the commit, no times and no paths: two builds of one commit are the same bytes. In
//! a source archive without git, and in a debug build (which would be made anew for every commit),
//! it stays unknown.

use std::path::Path;
use std::process::Command;

const VARIABLE: &str = "GPURUN_COMMIT";

fn main() {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    println!("cargo:rerun-if-changed=build.rs");
    // Given: rustc sees it by itself.
    if std::env::var_os(VARIABLE).is_some_and(|commit| !commit.is_empty()) {
        return;
    }
    let is_release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    if is_release && let Some(commit) = commit() {
        println!("cargo:rustc-env={VARIABLE}={commit}");
    }
}

fn commit() -> Option<String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    // An archive that was unpacked in somebody's own repository is no working copy of this one.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    for path in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let is_dirty = Command::new("git").args(["diff-index", "--quiet", "HEAD"]).status();
    match is_dirty.is_ok_and(|status| status.success()) {
        true => Some(commit),
        false => Some(format!("{commit}-dirty")),
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
