//! The application profile that keeps EGL and Vulkan to the container's GPUs.
//!
//! The format is the driver's; the setting is a bit mask of the minors that are visible.

use crate::gpu::plan::{Mask, Plan};

/// The file, in the directory that the driver reads after its own.
const FILE: &str = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";

/// The setting has this many bits.
const MOST_GPUS: u32 = 64;

/// Adds the profile for the GPUs with these minors; none where there is no GPU.
pub fn add(minors: &[u32], plan: &mut Plan) {
    if minors.is_empty() {
        return;
    }
    let beyond = minors.iter().filter(|minor| **minor >= MOST_GPUS);
    for minor in beyond {
        plan.notes.push(format!("GPU with minor {minor} cannot be in the application profile"));
    }
    let mask = minors.iter().filter_map(|minor| 1_u64.checked_shl(*minor)).fold(0, |a, b| a | b);
    let profile = serde_json::json!({
        "profiles": [{"name": "_container_", "settings": ["EGLVisibleDGPUDevices", mask]}],
        "rules": [{"pattern": [], "profile": "_container_"}]
    });
    let destination = FILE.into();
    plan.generated.retain(|known: &Mask| known.destination != destination);
    plan.generated.push(Mask {
        destination,
        content: format!("{profile:#}\n"),
        why: "EGL and Vulkan see the container's GPUs only".to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_has_a_bit_per_minor() {
        let mut plan = Plan::default();
        add(&[0, 7, 64], &mut plan);
        let [file] = plan.generated.as_slice() else { panic!("{plan:?}") };
        let content: serde_json::Value = serde_json::from_str(&file.content).unwrap();
        assert_eq!(content["profiles"][0]["settings"][1], 0x81);
        assert!(plan.notes[0].contains("64"), "{:?}", plan.notes);
        add(&[1], &mut plan);
        assert_eq!(plan.generated.len(), 1);
        add(&[], &mut Plan::default());
    }
}
