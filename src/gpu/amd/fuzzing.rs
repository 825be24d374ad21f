//! AMD's lists of GPUs, KFD's properties, and the tracker's file.

use serde_json::Value;

use super::gpus::Gpu;
use super::select::select;
use super::topology;
use super::tracker::{self, TrackerError};
use super::wish::{AmdWish, Item};
use crate::fuzzing::{Target, text};
use crate::gpu::pci::Address;
use crate::gpu::register::Register;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "amd_list", run: amd_list },
    Target { name: "kfd_properties", run: kfd_properties },
    Target { name: "amd_tracker", run: amd_tracker },
];

fn gpu(index: u32) -> Gpu {
    Gpu {
        index,
        render: 128 + index,
        nodes: Vec::new(),
        directory: String::new(),
        address: Address { domain: 0, bus: 5, device: 0, function: 0 },
        // Of two partitions of one GPU.
        unique_id: (index != 3)
            .then(|| format!("{:#x}", 0x0378_041e_1ada_6015 + u64::from(index / 2))),
        model: None,
        partition: None,
    }
}

/// The value of the variable.
fn amd_list(data: &[u8]) {
    let value = text(data);
    let devices: Vec<String> = value.split(',').map(str::to_owned).collect();
    for item in &devices {
        let again = match Item::parse(item) {
            None => continue,
            Some(Item::UniqueId(id)) => format!("{id:#x}"),
            Some(Item::Index(index)) => index.to_string(),
            Some(Item::Range(first, last)) => {
                assert!(first <= last);
                format!("{first}-{last}")
            }
        };
        assert_eq!(Item::parse(&again), Item::parse(item), "{item}");
    }
    let gpus: Vec<Gpu> = (0..4).map(gpu).collect();
    let source = format!("AMD_VISIBLE_DEVICES={value}");
    for strict in [false, true] {
        let of = |devices: &[String]| {
            let (devices, source) = (devices.to_vec(), source.clone());
            let wish = AmdWish { devices, strict, is_guess: false, source };
            let mut notes = Vec::new();
            let selected = select(&wish, &gpus, &mut notes).map_err(|error| error.to_string());
            let all = |found: Vec<(&Gpu, String)>| -> Vec<u32> {
                found.into_iter().map(|(gpu, _)| gpu.index).collect()
            };
            (selected.map(all), notes.len())
        };
        let (found, notes) = of(&devices);
        assert!(notes <= devices.len());
        match &found {
            Ok(found) => assert!(found.is_sorted_by(|one, next| one < next), "{found:?}"),
            Err(error) => assert!(!error.contains('\n'), "an error of two lines: {error}"),
        }
        let mut reversed = devices.clone();
        reversed.reverse();
        assert_eq!(of(&reversed).0.is_ok(), found.is_ok());
        if let (Ok(found), Ok(reversed)) = (found, of(&reversed).0) {
            assert_eq!(found, reversed, "the order matters");
        }
    }
}

fn kfd_properties(data: &[u8]) {
    let Some((minor, node)) = topology::node(text(data)) else { return };
    assert!(minor > 0 && node.unique_id != Some(0));
    assert!(node.parent.device < 32 && node.parent.function == 0);
    let location = u32::from(node.parent.bus) << 8 | u32::from(node.parent.device) << 3;
    let written = format!(
        "location_id {location}\ndomain {}\nunique_id {}\ndrm_render_minor {minor}\n",
        node.parent.domain,
        node.unique_id.unwrap_or(0)
    );
    assert_eq!(topology::node(&written), Some((minor, node)));
}

/// The tracker's file.
fn amd_tracker(data: &[u8]) {
    let Ok(before) = serde_json::from_slice::<Value>(data) else { return };
    if !before.is_object() {
        return;
    }
    let register = Register { vendor: "amd".to_owned(), file: "/f.json".into(), gpus: vec![0, 1] };
    let mut list = before.clone();
    match tracker::add_to(&mut list, &register, "me") {
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "an error of two lines: {error}");
            if let TrackerError::InUse { gpus, holders, .. } = error {
                assert!(!gpus.is_empty() && !holders.is_empty());
                assert!(holders.iter().all(|holder| holder != "me"));
            }
        }
        Ok(()) => {
            let once = list.clone();
            tracker::add_to(&mut list, &register, "me").expect("it is there");
            assert_eq!(list, once, "twice is not once");
            assert!(tracker::take_from(&mut list, "me"));
            assert!(!tracker::take_from(&mut list, "me"), "it is still there");
            // What is another's stays; an absent list of containers may be an empty one.
            let mut wanted = before;
            for gpu in ["0", "1"] {
                let ids = &mut wanted["gpusStatus"][gpu]["containerIds"];
                if ids.is_null() {
                    *ids = Value::Array(Vec::new());
                }
            }
            tracker::take_from(&mut wanted, "me");
            assert_eq!(list, wanted);
        }
    }
}
