//! Tests that start real containers with the gpurun binary.

pub mod cache;
pub mod cases;
pub mod daemon;
pub mod gpu_host;
pub mod probe;
pub mod stub_driver;
pub mod terminal;
