//! Checkpoint and restore with [CRIU](https://criu.org), as runc does it.
//!
//! CRIU freezes a tree of processes, writes what the kernel knows of it to image files, and makes
//! the same tree from them again. It is a program of its own: [`client`] starts `criu swrk` and
//! talks to it over a socket (protobuf messages of the `rust-criu` crate, whose own client has no
//! place for the state that answering notifications takes).
//!
//! What CRIU cannot know is which parts of a container come from outside and have to be there
//! again before it can put the processes back:
//!
//! | file | holds |
//! |---|---|
//! | [`client`] | finding, starting and talking to criu |
//! | [`dump`] | `checkpoint` |
//! | [`restore`] | `restore` |
//! | [`options`] | what both requests have in common |
//! | [`directory`] | whose the directories of images and logs are |
//! | [`external`] | which mounts of a container come from outside; pure |
//! | [`namespaces`] | namespaces that the container joined by path |
//! | [`descriptors`] | pipes that the container inherited as stdin, stdout and stderr |
//! | [`log`] | criu's log file, quoted when something went wrong |
//!
//! The mounts of a container about to be restored are made by [`crate::init::stage`].

pub mod client;
pub mod descriptors;
pub mod directory;
pub mod dump;
pub mod external;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
pub mod log;
pub mod namespaces;
pub mod options;
pub mod restore;
