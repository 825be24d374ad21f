//! The driver's libraries and the links beside them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::capabilities::Capabilities;
use super::driver::{Driver, LibraryDirectory};
use super::error::Error;
use super::library_table::{classify, expanded};
use crate::gpu::plan::{Abi, FileKind, FileMount, Link, Place, Plan};
use crate::host::HostError;
use crate::host::elf::{self, Identity};
use crate::host::tree::Directory;

/// The sub-directory that VDPAU loads its drivers from.
const VDPAU: &str = "vdpau";
const VDPAU_LIBRARY: &str = "libvdpau_nvidia";

/// What to say of a file that cannot be read: it is no reason to leave it out.
fn unread(path: &Path) -> impl FnOnce(io::Error) -> HostError + '_ {
    |source| HostError { action: "read", path: path.to_owned(), source }
}

/// Adds the libraries of the wanted capabilities, each file name once per ABI.
pub fn add(driver: &Driver, wanted: Capabilities, plan: &mut Plan) -> Result<(), Error> {
    let mut collected = Collected {
        driver,
        wanted,
        taken: HashSet::new(),
        stems: Vec::new(),
        plain: HashSet::new(),
        plan,
    };
    for LibraryDirectory { relative, directory } in &driver.directories {
        let has_vdpau = collected.list(relative, directory)?;
        if has_vdpau && let Some(directory) = driver.tree.directory(relative.join(VDPAU))? {
            collected.list(&relative.join(VDPAU), &directory)?;
        }
    }
    let has = |stem| collected.stems.iter().any(|known| known == stem);
    for (capability, stem) in
        [(Capabilities::COMPUTE, "libcuda"), (Capabilities::UTILITY, "libnvidia-ml")]
    {
        if wanted.any(capability) && !has(stem) {
            let places: Vec<String> = driver
                .directories
                .iter()
                .map(|d| d.directory.path().display().to_string())
                .collect();
            collected.plan.notes.push(format!(
                "{stem}.so.{} is in none of {}: {} will not work",
                driver.version,
                places.join(", "),
                capability.names().join(", ")
            ));
        }
    }
    Ok(())
}

struct Collected<'a> {
    driver: &'a Driver,
    wanted: Capabilities,
    /// The destinations of files and links, so that each is given once.
    taken: HashSet<(bool, PathBuf)>,
    /// The names, before `.so.`, of the 64-bit libraries.
    stems: Vec<String>,
    /// The names without a version in the directory that is being listed.
    plain: HashSet<String>,
    plan: &'a mut Plan,
}

impl Collected<'_> {
    /// Lists one directory once and adds what is wanted of it. Says whether it has a
    /// sub-directory for VDPAU.
    fn list(&mut self, relative: &Path, directory: &Directory) -> Result<bool, Error> {
        let wanted = expanded(self.wanted);
        let mut names: Vec<(String, FileType)> = Vec::new();
        let mut has_vdpau = false;
        let mut plain = HashSet::new();
        directory.each(|name, kind| {
            let Ok(name) = std::str::from_utf8(name) else {
                return;
            };
            has_vdpau |= name == VDPAU;
            if kind != FileType::RegularFile && name.ends_with(".so") {
                plain.insert(name.to_owned());
            }
            if classify(name, &self.driver.version).is_some_and(|(_, set)| set.any(wanted)) {
                names.push((name.to_owned(), kind));
            }
        })?;
        self.plain = plain;
        // Of two versions of a library with its own version the newer comes first and is taken.
        names.sort_unstable_by(|(a, _), (b, _)| stem(a).cmp(stem(b)).then_with(|| b.cmp(a)));
        for (name, kind) in names {
            self.add(relative, directory, &name, kind)?;
        }
        Ok(has_vdpau)
    }

    fn add(
        &mut self,
        relative: &Path,
        directory: &Directory,
        name: &str,
        kind: FileType,
    ) -> Result<(), Error> {
        let Some((stem, set)) = classify(name, &self.driver.version) else {
            return Ok(());
        };
        let Some((source, identity)) = self.identify(relative, directory, name, kind)? else {
            self.plan.notes.push(format!(
                "{} is not an ELF file: left out",
                directory.path().join(name).display()
            ));
            return Ok(());
        };
        let Some(abi) = Abi::of(&identity) else {
            return Ok(());
        };
        if abi == Abi::I386 && !self.wanted.any(Capabilities::COMPAT32) {
            return Ok(());
        }
        let parent = if stem == VDPAU_LIBRARY { Path::new(VDPAU) } else { Path::new("") };
        let destination = parent.join(name);
        let soname = identity.soname.clone().filter(|soname| soname != name);
        let clashes = |path: &PathBuf| self.taken.contains(&(abi == Abi::I386, path.clone()));
        if clashes(&destination) || soname.as_ref().is_some_and(|name| clashes(&parent.join(name)))
        {
            return Ok(());
        }
        self.taken.insert((abi == Abi::I386, destination.clone()));
        let why = why(set.and(expanded(self.wanted)), abi);
        self.links(directory, parent, name, stem, soname.as_deref(), abi, &why);
        if abi == Abi::Native {
            self.stems.push(stem.to_owned());
        }
        self.plan.files.push(FileMount {
            source,
            destination: Place::Library(abi, destination),
            // A library that is its own SONAME has it all the same.
            kind: FileKind::Library { soname: soname.or_else(|| Some(name.to_owned())), abi },
            why,
        });
        Ok(())
    }

    /// Where the file really is and what it is. `None`: no ELF file.
    fn identify(
        &self,
        relative: &Path,
        directory: &Directory,
        name: &str,
        kind: FileType,
    ) -> Result<Option<(PathBuf, Identity)>, Error> {
        if kind != FileType::Symlink
            && let Some(file) = directory.open_regular(name)
        {
            let path = directory.path().join(name);
            let identity = elf::read_identity(file).map_err(unread(&path))?;
            return Ok(identity.map(|identity| (path, identity)));
        }
        let path = relative.join(name);
        let (Some(found), Some(file)) =
            (self.driver.tree.find(&path)?, self.driver.tree.open_file(&path)?)
        else {
            return Ok(None);
        };
        let identity = elf::read_identity(file).map_err(unread(&found.path))?;
        Ok(identity.map(|identity| (found.path, identity)))
    }

    /// The links that programs and other libraries look a library up by.
    #[allow(clippy::too_many_arguments)]
    fn links(
        &mut self,
        directory: &Directory,
        parent: &Path,
        name: &str,
        stem: &str,
        soname: Option<&str>,
        abi: Abi,
        why: &str,
    ) {
        let target = soname.unwrap_or(name);
        if let Some(soname) = soname {
            self.link(abi, parent.join(soname), name, why);
        }
        let plain = format!("{stem}.so");
        // Programs dlopen these two without a version, whether or not the host has the link.
        let always = ["libcuda", "libnvidia-opticalflow"].contains(&stem);
        if always || (self.plain.contains(&plain) && directory.link(&plain).is_some()) {
            self.link(abi, parent.join(plain), target, why);
        }
        match stem {
            "libGLX_nvidia" => self.link(abi, "libGLX_indirect.so.0".into(), name, why),
            "libnvidia-vulkan-producer" => {
                self.link(abi, "libnvidia-vulkan-producer.so".into(), name, why);
            }
            "libnvidia-allocator"
                if self.wanted.any(Capabilities::GRAPHICS.or(Capabilities::DISPLAY)) =>
            {
                let target = format!("../{target}");
                self.link(abi, "gbm/nvidia-drm_gbm.so".into(), &target, why);
            }
            _ => {}
        }
    }

    fn link(&mut self, abi: Abi, path: PathBuf, target: &str, why: &str) {
        if self.taken.insert((abi == Abi::I386, path.clone())) {
            self.plan.links.push(Link {
                destination: Place::Library(abi, path),
                target: target.into(),
                why: why.to_owned(),
            });
        }
    }
}

/// The name before `.so.`.
fn stem(name: &str) -> &str {
    name.split_once(".so.").map_or(name, |(stem, _)| stem)
}

fn why(set: Capabilities, abi: Abi) -> String {
    let names = set.names().join(", ");
    if abi == Abi::I386 { format!("{names} (32-bit)") } else { names }
}
