//! ELF files.

use std::io::Write;

use rustix::fs::MemfdFlags;

use super::elf;
use crate::fuzzing::Target;
use crate::gpu::compatibility;

pub(crate) const TARGETS: &[Target] = &[Target { name: "elf", run }];

fn run(data: &[u8]) {
    let file = rustix::fs::memfd_create("elf", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut file = std::fs::File::from(file);
    file.write_all(data).expect("written");
    let found = elf::identify(&file);
    assert_eq!(elf::identify(&file), found);
    assert!(found.is_none() || data.starts_with(b"\x7fELF"));
    if let Some(soname) = found.and_then(|identity| identity.soname) {
        assert!(!soname.is_empty() && soname.len() <= 255 && soname != "." && soname != "..");
        assert!(soname.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
        assert!(data.windows(soname.len()).any(|window| window == soname.as_bytes()));
    }
    for limit in [16, compatibility::LONGEST_NOTE] {
        if let Some(section) = elf::section(&file, compatibility::SECTION, limit) {
            assert!(section.len() <= limit && section.len() <= data.len());
            let _ = compatibility::Note::from_section(&section);
        }
    }
}
