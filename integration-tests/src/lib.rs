//! Tests that start real containers with the gpurun binary.

pub mod cache;
pub mod gpu_host;
pub mod stub_driver;
