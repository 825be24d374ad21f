//! Starts real containers with a runtime binary and looks at what comes out.
//!
//! Only the binary is used, never gpurun's library, so the same tests run against any runtime
//! with runc's command line: `RUNTIME=/usr/sbin/runc cargo test -p integration-tests`.
//! Everything here needs root. A test that cannot run on a machine writes one line starting with
//! `skipped:` and passes.
//!
//! | file | answers |
//! |---|---|
//! | `runtime` | which binary, and how is it called (time limit, captured output) |
//! | `bundle` | what is in config.json |
//! | `rootfs` | what is in the container's file system |
//! | `container` | one container of one test, removed and checked for leaks when it goes away |
//! | `cgroup` | what do the cgroup files of a container say, in v1 and v2 |
//! | `v2` | how does a cgroup v1 host run a test in cgroup v2 |
//! | `ordinary_user` | how does a user without privileges run a test |
//! | `checkpoint` | how does criu dump and restore a container |
//! | `console` | who receives the pseudo-terminal |
//! | `leak` | what was left behind |
//! | `faults` | whose system calls fail |
//! | `confinement` | what can a container's process do |
//! | `canary` | what of the host was touched |
//! | `race` | who exchanges files while a runtime works |
//! | `tripwire` | was a file opened |
//!
//! Machines and programs that tests build for themselves:
//!
//! | file | holds |
//! |---|---|
//! | `gpu_host` | a made-up NVIDIA machine in a directory |
//! | `vendor_host` | a made-up machine with AMD's, Intel's and other makers' devices |
//! | `gpu_container` | a container that asks such a machine for GPUs |
//! | `stub_driver` | a driver root of stub libraries and programs |
//! | `stub_smi` | the same with an `nvidia-smi` that says what a test wants |
//! | `systemd_machine` | a machine that systemd runs, with `systemd_machine.sh` |
//! | `nvidia_packages` | Debian's packages of NVIDIA's own user space, as a driver root |
//! | `images` | root file systems of other distributions |
//! | `probe` | C programs that look at a container from inside |
//! | `daemon`, `dockerd`, `containerd`, `podman` | engines that belong to a test |
//! | `cases` | a test program whose cases share an engine |
//! | `terminal` | a program run under a pseudo-terminal |
//! | `cache` | what is slow to make, kept between runs |

pub mod bundle;
pub mod canary;
pub mod cgroup;
pub mod checkpoint;
pub mod confinement;
pub mod console;
pub mod container;
pub mod faults;
pub mod leak;
pub mod ordinary_user;
pub mod race;
pub mod rootfs;
pub mod runtime;
pub mod tripwire;
pub mod v2;

pub mod cache;
pub mod cases;
pub mod cdi_file;
pub mod containerd;
pub mod daemon;
pub mod dockerd;
pub mod gpu_container;
pub mod gpu_host;
pub mod images;
pub mod nvidia_packages;
pub mod podman;
pub mod probe;
pub mod stub_driver;
pub mod stub_smi;
pub mod systemd_machine;
pub mod terminal;
pub mod vendor_host;

pub use bundle::Config;
pub use container::Container;
pub use runtime::{Output, Runtime};
pub use serde_json::{Value, json};

use std::io::Write;
use std::time::{Duration, Instant};

/// Says on the real stderr, past the test harness's capture, that the current test cannot run.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Returns from the test unless the runtime under test is gpurun.
///
/// For behaviour that differs from the runc the suite is checked with: the test says what gpurun
/// must do, the reason says what the other does.
#[macro_export]
macro_rules! gpurun_only {
    ($reason:expr) => {
        if !$crate::Runtime::is_gpurun() {
            $crate::skipped(&format!("gpurun only: {}", $reason));
            return;
        }
    };
}

/// Waits until `done` holds; panics with `what` after ten seconds.
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited 10 s for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
