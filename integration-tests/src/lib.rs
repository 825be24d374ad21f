//! Tests that start real containers with the gpurun binary.
