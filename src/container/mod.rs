//! A container's life as the host sees it: the bundle it is made from, the state directory that
//! remembers it, and one file per thing that can be done to it.
//!
//! What runs inside the container belongs to [`crate::init`]; what the user typed and sees, to
//! [`crate::commands`].

pub mod activation;
pub mod as_hook;
pub mod bundle;
pub mod capabilities;
pub mod console;
pub mod create;
pub mod criu;
pub mod decide;
pub mod delete;
pub mod events;
pub mod exec;
pub mod foreground;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod gpus;
pub mod holders;
pub mod id;
pub mod idmap;
pub mod json;
pub mod kill;
pub mod launch;
pub mod lenient;
pub mod lock;
pub mod members;
pub mod more_gpus;
pub mod mount_sources;
pub mod net_devices;
pub mod notify_socket;
pub mod pause;
pub mod pid_file;
pub mod pidfd_socket;
pub mod process;
pub mod resctrl;
pub mod rootless;
pub mod sealed;
pub mod start;
pub mod state;
pub mod store;
pub mod terminal;
pub mod traces;
pub mod update;
