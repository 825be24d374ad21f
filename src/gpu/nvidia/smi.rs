//! What the driver's `nvidia-smi` says of MIG devices, whose UUIDs are nowhere in `/proc`.
//!
//! `-L` lists them with their UUIDs:
//!
//! ```text
//! GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-…)
//!   MIG 3g.20gb     Device  0: (UUID: MIG-…)
//! ```
//!
//! Drivers before 470 write `MIG-GPU-…/<gi>/<ci>` there. `-q -x` has in its `mig_device` elements
//! which instances an index stands for, and no UUID. Both formats are told to change between
//! drivers, so anything else in them is passed over.

use super::gpus;

/// A line of `-L` with a MIG device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The UUID of its GPU, `GPU-…`.
    pub gpu: String,
    /// The index on its GPU.
    pub index: u32,
    /// Its UUID, `MIG-…`.
    pub uuid: String,
}

/// A `mig_device` of `-q -x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// The index on its GPU.
    pub index: u32,
    /// The id of its GPU instance.
    pub gi: u32,
    /// The id of its compute instance.
    pub ci: u32,
}

/// Reads the output of `-L`. `None`: it lists no GPU, so it is something else.
pub fn listed(text: &str) -> Option<Vec<Listed>> {
    let mut found = Vec::new();
    let mut gpu: Option<&str> = None;
    let mut lists_gpus = false;
    for line in text.lines().map(str::trim) {
        let named = line.rsplit_once("(UUID:");
        let named = named.and_then(|(head, uuid)| Some((head, uuid.trim().strip_suffix(')')?)));
        if line.starts_with("GPU ") {
            lists_gpus = true;
            gpu = named.map(|(_, uuid)| uuid.trim()).filter(|uuid| gpus::is_uuid(uuid));
        } else if line.starts_with("MIG ")
            && let (Some(gpu), Some((head, uuid))) = (gpu, named)
            && let Some(index) = device(head)
        {
            let uuid = uuid.trim();
            if uuid.starts_with("MIG-") {
                found.push(Listed { gpu: gpu.to_owned(), index, uuid: uuid.to_owned() });
            }
        }
    }
    lists_gpus.then_some(found)
}

/// The number in `MIG 3g.20gb     Device  0: `.
fn device(head: &str) -> Option<u32> {
    let mut words = head.trim().strip_suffix(':')?.split_whitespace().rev();
    let index = words.next()?.parse().ok()?;
    (words.next()? == "Device").then_some(index)
}

/// Reads the output of `-q -x` for the GPU with this UUID. `None`: it is not in there.
pub fn numbered(xml: &str, gpu: &str) -> Option<Vec<Numbered>> {
    xml.split("<gpu ").skip(1).find_map(|element| {
        let element = element.split("</gpu>").next()?;
        let mut pieces = element.split("<mig_device>");
        let before = pieces.next()?;
        let mut devices = Vec::new();
        let mut outside = before.to_owned();
        for piece in pieces {
            let (inside, after) = piece.split_once("</mig_device>")?;
            let number = |name| value(inside, name)?.parse().ok();
            if let (Some(index), Some(gi), Some(ci)) =
                (number("index"), number("gpu_instance_id"), number("compute_instance_id"))
            {
                devices.push(Numbered { index, gi, ci });
            }
            outside.push_str(after);
        }
        let is_it = value(&outside, "uuid").is_some_and(|uuid| uuid.eq_ignore_ascii_case(gpu));
        is_it.then_some(devices)
    })
}

/// The text of the first element of this name.
fn value<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: [&str; 2] =
        ["GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-e109d8d9-923e-7235-0429-96b7fdbcbd30"];
    const MIG: [&str; 2] =
        ["MIG-ffda444c-c706-57c6-98c9-67c441a0b109", "MIG-fe9bc608-60f5-5479-8cc4-1827021d27a9"];

    fn one(gpu: &str, index: u32, uuid: &str) -> Listed {
        Listed { gpu: gpu.to_owned(), index, uuid: uuid.to_owned() }
    }

    #[test]
    fn the_list_of_every_driver_is_read() {
        let (a, b, m, n) = (GPU[0], GPU[1], MIG[0], MIG[1]);
        let old = [format!("MIG-{a}/7/0"), format!("MIG-{a}/11/0")];
        for (text, expected) in [
            // 470 and later.
            (
                format!(
                    "GPU 0: NVIDIA A100-SXM4-40GB (UUID: {a})\n  \
                     MIG 3g.20gb     Device  0: (UUID: {m})\n  \
                     MIG 1g.10gb+me  Device  1: (UUID: {n})\n\
                     GPU 1: NVIDIA A100-SXM4-40GB (UUID: {b})\n"
                ),
                vec![one(a, 0, m), one(a, 1, n)],
            ),
            // Two compute instances of one GPU instance, on the second GPU.
            (
                format!(
                    "GPU 0: NVIDIA H100 80GB HBM3 (UUID: {b})\nGPU 1: NVIDIA H100 80GB HBM3 \
                     (UUID: {a})\r\n  MIG 1c.3g.40gb  Device  0: (UUID: {m})\r\n  \
                     MIG 2c.3g.40gb  Device 12: (UUID: {n})\r\n"
                ),
                vec![one(a, 0, m), one(a, 12, n)],
            ),
            // Before 470.
            (
                format!(
                    "GPU 0: A100-SXM4-40GB (UUID: {a})\n  MIG 1g.5gb Device 0: (UUID: {})\n  \
                     MIG 1g.5gb Device 1: (UUID: {})\n",
                    old[0], old[1]
                ),
                vec![one(a, 0, &old[0]), one(a, 1, &old[1])],
            ),
            // A GPU that does not answer, and its devices, which must not become another's.
            (
                format!(
                    "GPU 0: NVIDIA A100 (UUID: {a})\nUnable to determine the device handle for \
                     GPU1: 0000:3B:00.0: Unknown Error\nGPU 1: Unknown Error\n  \
                     MIG 1g.5gb     Device  0: (UUID: {m})\n"
                ),
                vec![],
            ),
            (format!("GPU 0: NVIDIA A100 (UUID: {a})\n  MIG 1g.5gb Device x: (UUID: {m})"), vec![]),
            (format!("GPU 0: NVIDIA A100 (UUID: {a})\n  MIG 1g.5gb 0: (UUID: {m})"), vec![]),
            (format!("GPU 0: NVIDIA A100 (UUID: {a})\n  MIG 1g.5gb Device 0: (UUID: {m}"), vec![]),
        ] {
            assert_eq!(listed(&text), Some(expected), "{text}");
        }
        for text in
            ["", "No devices were found\n", "\u{0}\u{7f}ELF", "MIG 1g Device 0: (UUID: MIG-)"]
        {
            assert_eq!(listed(text), None, "{text}");
        }
    }

    /// As of driver 535, shortened.
    fn xml(gpus: &[(&str, &str)]) -> String {
        let gpus = gpus.iter().map(|(uuid, devices)| {
            format!(
                "<gpu id=\"00000000:10:00.0\">\n\t<product_name>NVIDIA A100</product_name>\n\
                 \t<mig_mode>\n\t\t<current_mig>Enabled</current_mig>\n\t</mig_mode>\n\
                 \t<mig_devices>\n{devices}\t</mig_devices>\n\t<uuid>{uuid}</uuid>\n\
                 \t<processes>\n\t\t<process_info>\n\
                 \t\t\t<gpu_instance_id>5</gpu_instance_id>\n\
                 \t\t\t<compute_instance_id>0</compute_instance_id>\n\
                 \t\t</process_info>\n\t</processes>\n</gpu>\n"
            )
        });
        format!(
            "<?xml version=\"1.0\" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM \
             \"nvsmi_device_v12.dtd\">\n<nvidia_smi_log>\n\t<attached_gpus>2</attached_gpus>\n\
             {}</nvidia_smi_log>\n",
            gpus.collect::<String>()
        )
    }

    fn mig_device(index: &str, gi: &str, ci: &str) -> String {
        format!(
            "\t\t<mig_device>\n\t\t\t<index>{index}</index>\n\
             \t\t\t<gpu_instance_id>{gi}</gpu_instance_id>\n\
             \t\t\t<compute_instance_id>{ci}</compute_instance_id>\n\
             \t\t\t<fb_memory_usage>\n\t\t\t\t<total>20096 MiB</total>\n\
             \t\t\t</fb_memory_usage>\n\t\t</mig_device>\n"
        )
    }

    #[test]
    fn the_instances_of_each_index_are_read_from_the_right_gpu() {
        let devices = mig_device("0", "1", "0") + &mig_device("1", "5", "1");
        let text = xml(&[(GPU[1], "\t\tNone\n"), (GPU[0], &devices)]);
        let expected =
            vec![Numbered { index: 0, gi: 1, ci: 0 }, Numbered { index: 1, gi: 5, ci: 1 }];
        assert_eq!(numbered(&text, GPU[0]), Some(expected.clone()));
        assert_eq!(numbered(&text, &GPU[0].to_uppercase()), Some(expected));
        assert_eq!(numbered(&text, GPU[1]), Some(vec![]));
        assert_eq!(numbered(&text, "GPU-00000000-0000-0000-0000-000000000000"), None);
    }

    #[test]
    fn a_uuid_of_a_mig_device_is_not_taken_for_the_gpus() {
        let device = mig_device("0", "1", "0").replace("<index>", "<uuid>MIG-1</uuid><index>");
        let text = xml(&[(GPU[0], &device)]);
        assert_eq!(numbered(&text, GPU[0]).map(|devices| devices.len()), Some(1));
        assert_eq!(numbered(&text, "MIG-1"), None);
    }

    #[test]
    fn what_is_broken_is_left_out() {
        for (index, gi, ci) in [("x", "1", "0"), ("0", "N/A", "0"), ("0", "1", "-1")] {
            let text = xml(&[(GPU[0], &mig_device(index, gi, ci))]);
            assert_eq!(numbered(&text, GPU[0]), Some(vec![]), "{index} {gi} {ci}");
        }
        let whole = xml(&[(GPU[0], &mig_device("0", "1", "0"))]);
        for end in 0..whole.len() {
            // Whatever it is, it is no other device.
            let found = numbered(&whole[..end], GPU[0]).unwrap_or_default();
            assert!(found.iter().all(|one| (one.index, one.gi, one.ci) == (0, 1, 0)), "{end}");
        }
        assert_eq!(numbered("", GPU[0]), None);
    }
}
