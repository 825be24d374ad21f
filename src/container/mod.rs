//! A container's life as the host sees it: the bundle it is made from, the state directory that
//! remembers it, and one file per thing that can be done to it.
//!
//! What runs inside the container belongs to [`crate::init`]; what the user typed and sees, to
//! [`crate::commands`].

pub mod bundle;
pub mod capabilities;
pub mod console;
pub mod create;
pub mod delete;
pub mod exec;
pub mod foreground;
pub mod id;
pub mod idmap;
pub mod json;
pub mod kill;
pub mod launch;
pub mod pause;
pub mod process;
pub mod sealed;
pub mod start;
pub mod state;
pub mod store;
pub mod update;
