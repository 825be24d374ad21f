//! The gpurun program.
fn main() {}
