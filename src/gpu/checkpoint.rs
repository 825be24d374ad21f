//! GPUs and checkpoints.
//!
//! Nodes, driver files and device rules of a container come back with a restore, from the plan of
//! the bundle. What a process has going on in a driver only the driver's own tools can save.

/// What to do about a GPU that was in use when a checkpoint failed.
pub const REMEDY: &str = "CRIU can dump a GPU in use only with the plugin for its driver in \
    CRIU's library directory: cuda_plugin.so, with cuda-checkpoint in $PATH, for NVIDIA; \
    amdgpu_plugin.so for AMD; or end the GPU program first";
