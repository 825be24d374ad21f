//! The vendors that need no description, only to be enabled.
//!
//! Variables and nodes as the vendors' own runtimes and launch scripts have them
//! (docs/configuration.md says what a table leaves out).

use std::path::Path;

use super::entry::{Entry, Pattern, Unknown, below_dev};

/// A ready-made [`Entry`].
struct Ready {
    name: &'static str,
    variable: &'static str,
    devices: &'static [&'static str],
    pci_vendor: Option<&'static str>,
    common: &'static [&'static str],
    prefixes: &'static [&'static str],
    all: bool,
}

static READY: [Ready; 6] = [
    // Huawei. Its runtime does not know `all`, and takes the name of the chip before an index.
    Ready {
        name: "ascend",
        variable: "ASCEND_VISIBLE_DEVICES",
        devices: &["/dev/davinci{}"],
        pci_vendor: None,
        common: &["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"],
        prefixes: &["Ascend310-", "Ascend310B-", "Ascend310P-", "Ascend910-", "npu-"],
        all: false,
    },
    Ready {
        name: "mthreads",
        variable: "MTHREADS_VISIBLE_DEVICES",
        devices: &[],
        pci_vendor: Some("0x1ed5"),
        common: &[],
        prefixes: &[],
        all: true,
    },
    Ready {
        name: "metax",
        variable: "METAX_VISIBLE_DEVICES",
        devices: &[],
        pci_vendor: Some("0x9999"),
        common: &["/dev/mxcd", "/dev/mxgd", "/dev/mxnd"],
        prefixes: &[],
        all: true,
    },
    Ready {
        name: "hygon",
        variable: "HYGON_VISIBLE_DEVICES",
        devices: &[],
        pci_vendor: Some("0x1d94"),
        common: &["/dev/kfd", "/dev/mkfd"],
        prefixes: &[],
        all: true,
    },
    Ready {
        name: "cambricon",
        variable: "CAMBRICON_VISIBLE_DEVICES",
        devices: &["/dev/cambricon_dev{}", "/dev/cambricon_ipcm{}"],
        pci_vendor: None,
        common: &["/dev/cambricon_ctl", "/dev/cambricon_gdr"],
        prefixes: &[],
        all: true,
    },
    Ready {
        name: "iluvatar",
        variable: "IX_VISIBLE_DEVICES",
        devices: &["/dev/iluvatar{}"],
        pci_vendor: None,
        common: &["/dev/itrctl"],
        prefixes: &[],
        all: true,
    },
];

/// The ready-made vendor of this name.
#[must_use]
pub fn find(name: &str) -> Option<Entry> {
    let ready = READY.iter().find(|ready| ready.name == name)?;
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Some(Entry {
        name: ready.name.to_owned(),
        variable: ready.variable.to_owned(),
        devices: ready.devices.iter().filter_map(|text| Pattern::parse(text)).collect(),
        pci_vendor: ready.pci_vendor.map(str::to_owned),
        common: ready.common.iter().filter_map(|path| below_dev(path)).map(str::to_owned).collect(),
        prefixes: texts(ready.prefixes),
        ranges: true,
        all: ready.all,
        unknown: Unknown::Error,
    })
}

/// Whether a node of this path is the first, by which it is told, of a ready-made vendor's device.
#[must_use]
pub fn is_node(path: &Path) -> bool {
    let patterns = READY.iter().filter_map(|ready| Pattern::parse(ready.devices.first()?));
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let mut of_directory =
        patterns.filter(|pattern| Path::new("/dev").join(pattern.directory()) == directory);
    of_directory.any(|pattern| name.to_str().and_then(|name| pattern.index(name)).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::entry::SUFFIX;
    use super::*;

    #[test]
    fn every_ready_made_vendor_is_well_described() {
        for ready in &READY {
            let entry = find(ready.name).unwrap();
            assert!(entry.variable.ends_with(SUFFIX), "{}", ready.name);
            assert_eq!(entry.devices.len(), ready.devices.len(), "{}", ready.name);
            assert_eq!(entry.common.len(), ready.common.len(), "{}", ready.name);
            assert!(!entry.devices.is_empty() || entry.pci_vendor.is_some(), "{}", ready.name);
        }
        assert_eq!(find("nvidia"), None);
    }
}
