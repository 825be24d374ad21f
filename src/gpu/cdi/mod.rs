//! The Container Device Interface: files that say what a device's name stands for.
//!
//! What belongs here: reading and checking CDI files, finding them, resolving names to edits, and
//! the annotations that carry names. What does not: what a vendor's hook in an edit does (that
//! vendor's folder), and carrying edits out (they become a [`crate::gpu::plan::Plan`]).
//!
//! The rules are those of the reference implementation (container-device-interface 1.1), also
//! where its SPEC.md is stricter or silent: a file that one engine accepts must not be refused by
//! another.
//!
//! | file | holds |
//! |---|---|
//! | [`name`] | `vendor/class=device` |
//! | [`spec`] | the file's content, and parsing it |
//! | [`version`] | the known versions and what each brought |
//! | [`validate`] | what a parsed file must also fulfil |
//! | [`registry`] | the directories, priorities and conflicts |
//! | [`annotations`] | names in annotations |
//! | [`accepted`] | which of these count |
//! | [`wish`] | a request for names, and what it leads to |
//! | `applied` | which of them an engine has applied already |
//! | [`edits`] | from a device's edits to the plan |
//! | [`compare`] | what one file gives and another does not |
//! | [`generate`] | the other way: a file of what gpurun gives itself |

pub mod accepted;
pub mod annotations;
mod applied;
pub mod compare;
mod config;
pub mod edits;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod generate;
pub mod name;
pub mod registry;
pub mod spec;
pub mod validate;
pub mod version;
pub mod wish;

pub use config::{Config, SECTION};
pub use name::{InvalidName, QualifiedName};
pub use registry::Registry;
pub use spec::CdiSpec;
