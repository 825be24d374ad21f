//! What runs inside the container, from the clone to the exec of the user's program.

pub mod journal;
pub mod root;
pub mod rootfs;
