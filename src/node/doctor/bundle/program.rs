//! The program that a bundle names: whether it is there, this machine can run it, and its user
//! exists.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Mount, Process, Spec};

use crate::container::bundle::Bundle;
use crate::finding::Finding;
use crate::host::Tree;
use crate::host::elf::{self, EM_386, EM_AARCH64, EM_X86_64};

/// Whether the program is there and this machine can run it, and whether its user exists.
pub fn check(bundle: &Bundle) -> Vec<Finding> {
    let Some(process) = bundle.spec.process() else { return Vec::new() };
    let mut findings = users(&bundle.spec, process);
    let Some(name) = process.args().as_deref().unwrap_or_default().first() else {
        // `create` says so in its own words.
        return findings;
    };
    let candidates = candidates(process, name);
    let mounted = |path: &Path| {
        let mounts = bundle.spec.mounts().iter().flatten();
        mounts
            .map(Mount::destination)
            .any(|place| place.as_path() != Path::new("/") && path.starts_with(place))
    };
    let found = Tree::open(&bundle.rootfs).map(|tree| {
        let found = candidates
            .iter()
            .find(|path| matches!(tree.status(path), Ok(Some(status)) if status.kind.is_file()));
        found.map(|path| (path.clone(), runnable(&tree, path)))
    });
    findings.push(match found {
        Ok(Some((path, Ok(())))) => Finding::green("program", path.display().to_string()),
        Ok(Some((path, Err((reason, remedy))))) => {
            Finding::red("program", format!("{}: {reason}", path.display()), remedy)
        }
        Ok(None) if candidates.iter().any(|path| mounted(path)) => Finding::unseen(
            "program",
            format!("{name:?} may be on a mount"),
            "look there; nothing is mounted to find out",
        ),
        Ok(None) => Finding::red(
            "program",
            format!("{name:?} is not in the image: looked for {}", shown(&candidates)),
            "correct process.args or PATH, or install it in the image",
        ),
        Err(error) => Finding::unseen("program", error.to_string(), "sudo gpurun doctor"),
    });
    findings
}

fn shown(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "it in PATH, which is not set".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Where the program is looked for, as `init::executable` does.
fn candidates(process: &Process, name: &str) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![process.cwd().join(name)];
    }
    let env = process.env().as_deref().unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let absolute = path.split(':').filter(|directory| directory.starts_with('/'));
    absolute.map(|directory| Path::new(directory).join(name)).collect()
}

/// Whether the kernel would execute the file; the reason and the remedy if not.
fn runnable(tree: &Tree, path: &Path) -> Result<(), (String, &'static str)> {
    let status = tree.status(path).ok().flatten();
    if status.is_none_or(|status| status.mode & 0o111 == 0) {
        return Err((
            "permission denied: it is not executable".to_owned(),
            "chmod +x in the image",
        ));
    }
    let file = || tree.open_file(path).ok().flatten().map(File::from);
    // What cannot be read can still be executed.
    let Some(mut opened) = file() else { return Ok(()) };
    let mut head = [0; 256];
    let length = opened.read(&mut head).unwrap_or_default();
    let head = head.get(..length).unwrap_or_default();
    let absent = |loader: &str| match tree.status(loader) {
        Ok(None) => Err((
            format!("no such file or directory: its loader {loader} is not in the image"),
            "install that loader (a glibc program in a musl image, or the other way round), or \
             correct the first line of the script",
        )),
        _ => Ok(()),
    };
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return line.split_ascii_whitespace().next().map_or(Ok(()), absent);
    }
    let Some(identity) = file().and_then(elf::identify) else { return Ok(()) };
    let native: &[u16] = match std::env::consts::ARCH {
        "x86_64" => &[EM_X86_64, EM_386],
        "aarch64" => &[EM_AARCH64],
        _ => return Ok(()),
    };
    if !native.contains(&identity.machine) {
        return Err((
            format!(
                "exec format error: it is for ELF machine {}, not for {}",
                identity.machine,
                std::env::consts::ARCH
            ),
            "pull the image for this architecture, or register qemu-user with binfmt_misc",
        ));
    }
    file().and_then(elf::interpreter).map_or(Ok(()), |loader| absent(&loader))
}

/// Whether the program's user and group exist in the container's user namespace.
fn users(spec: &Spec, process: &Process) -> Vec<Finding> {
    let Some(linux) = spec.linux() else { return Vec::new() };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let is_new =
        |one: &LinuxNamespace| one.typ() == LinuxNamespaceType::User && one.path().is_none();
    if !namespaces.iter().any(is_new) {
        return Vec::new();
    }
    let is_mapped = |id: u32, maps: &Option<Vec<LinuxIdMapping>>| {
        maps.iter()
            .flatten()
            .any(|map| id.checked_sub(map.container_id()).is_some_and(|offset| offset < map.size()))
    };
    let user = process.user();
    [
        ("process.user.uid", user.uid(), linux.uid_mappings(), "linux.uidMappings"),
        ("process.user.gid", user.gid(), linux.gid_mappings(), "linux.gidMappings"),
    ]
    .into_iter()
    .filter(|(_, id, maps, _)| !is_mapped(*id, maps))
    .map(|(field, id, _, mappings)| {
        Finding::red(
            "user",
            format!("{field} {id} is not in {mappings}"),
            "run as a mapped user, or map a larger range (/etc/subuid, /etc/subgid)",
        )
    })
    .collect()
}
