//! Which hierarchies the machine has, and the container's place in them.

use std::path::{Component, Path, PathBuf};

use super::systemd::Unit;
use super::{Cgroup, CgroupError, Driver, Hierarchy, Mode, file};
use crate::mountinfo;

/// Where cgroup filesystems are mounted ([file-hierarchy(7)]).
///
/// [file-hierarchy(7)]: https://man7.org/linux/man-pages/man7/file-hierarchy.7.html
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The longest cgroupsPath: what is left of `PATH_MAX` for the mount's path, gpurun's own cgroup and
/// the names of the files.
const MAX_PATH: usize = 2048;

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2_MAGIC: i128 = 0x6367_7270;

impl Cgroup {
    /// The place of a container's cgroup, by runc's rules for the cgroupfs driver: an absolute
    /// `cgroups_path` counts from the root of each hierarchy; a relative one from gpurun's own
    /// cgroup (on v2 from its parent, because a cgroup with processes cannot have children with
    /// controllers); none means the container's id, relative. For the systemd driver it is
    /// `slice:prefix:name`. Nothing is created.
    ///
    /// # Errors
    /// [`CgroupError::Path`] for `..`, for the root itself and for what makes no unit's name;
    /// [`CgroupError::NoSystemd`]; [`CgroupError::NoHierarchy`]. As an ordinary user also what
    /// keeps the caller from their own systemd.
    pub fn locate(
        cgroups_path: Option<&Path>,
        id: &str,
        systemd: bool,
    ) -> Result<Self, CgroupError> {
        if systemd {
            let (unit, place) = Unit::locate(cgroups_path, id)?;
            let cgroup = Self::find(&Wanted::parse(Some(Path::new(&place)), id)?)?;
            return Ok(Self { driver: Driver::Systemd(unit), ..cgroup });
        }
        Self::find(&Wanted::parse(cgroups_path, id)?)
    }

    fn find(wanted: &Wanted) -> Result<Self, CgroupError> {
        let root = Path::new(CGROUP_ROOT);
        if is_cgroup2(root) {
            // Only a relative path needs to know where gpurun itself is.
            let own = match wanted.absolute {
                true => String::new(),
                false => file::read_path(Path::new("/proc/self/cgroup"))?,
            };
            return locate_v2(root, wanted, &own);
        }
        let mounts = file::read_path(Path::new("/proc/self/mountinfo"))?;
        let own = file::read_path(Path::new("/proc/self/cgroup"))?;
        locate_v1(wanted, &mounts, &own)
    }
}

/// What the spec asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    absolute: bool,
    /// Without a leading slash; never empty, no `..`.
    path: PathBuf,
}

impl Wanted {
    pub fn parse(cgroups_path: Option<&Path>, id: &str) -> Result<Self, CgroupError> {
        let path = match cgroups_path {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => Path::new(id),
        };
        let refuse = |reason| CgroupError::Path { path: path.to_owned(), reason };
        let inside = relative(path).map_err(refuse)?;
        if inside.as_os_str().is_empty() {
            return Err(refuse(
                "it is the root of the hierarchy; name a directory in it".to_owned(),
            ));
        }
        Ok(Self { absolute: path.is_absolute(), path: inside })
    }
}

/// `path` without its leading slash, refused when it has a `..` or a byte that no name can have.
pub(super) fn relative(path: &Path) -> Result<PathBuf, String> {
    if path.as_os_str().as_encoded_bytes().iter().any(|byte| *byte == 0 || *byte == b'\n') {
        return Err("it has a NUL or a newline in it".to_owned());
    }
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(format!("it is {length} bytes long, at most {MAX_PATH} are possible"));
    }
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => return Err("it has a `..` in it".to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(inside)
}

/// Whether the machine has cgroup v2 alone.
#[must_use]
pub fn is_unified() -> bool {
    is_cgroup2(Path::new(CGROUP_ROOT))
}

fn is_cgroup2(path: &Path) -> bool {
    // The field's type differs between architectures; this one holds them all.
    rustix::fs::statfs(path).is_ok_and(|stat| i128::from(stat.f_type) == CGROUP2_MAGIC)
}

pub(super) fn locate_v2(root: &Path, wanted: &Wanted, own: &str) -> Result<Cgroup, CgroupError> {
    let mut path = PathBuf::new();
    if !wanted.absolute {
        let own = own_path(own, |id, controllers| id == "0" && controllers.is_empty())
            .ok_or_else(|| CgroupError::NoHierarchy("gpurun itself is in none".to_owned()))?;
        if let Some(parent) = below(Path::new(own), Path::new("/"))?.parent() {
            path.push(parent);
        }
    }
    path.push(&wanted.path);
    let hierarchy = Hierarchy { controllers: Vec::new(), mount: root.to_owned(), path };
    Ok(Cgroup {
        mode: Mode::V2,
        driver: Driver::Cgroupfs,
        hierarchies: vec![hierarchy],
        refused: Vec::new(),
        id: None,
    })
}

pub(super) fn locate_v1(
    wanted: &Wanted,
    mountinfo: &str,
    own: &str,
) -> Result<Cgroup, CgroupError> {
    let mut mode = Mode::V1;
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for mount in mountinfo.lines().filter_map(parse_mount) {
        let Some((mount, v1)) = mount else { continue };
        let Some((controllers, own)) = own_hierarchy(own, &mount, v1) else {
            continue;
        };
        // A second mount of the same hierarchy, or one made for a container.
        if hierarchies.iter().any(|known| known.controllers == controllers) {
            continue;
        }
        let mut path = PathBuf::new();
        if !wanted.absolute {
            path.push(below(Path::new(own), &mount.root)?);
        }
        path.push(&wanted.path);
        if controllers.is_empty() {
            mode = Mode::Hybrid;
        }
        hierarchies.push(Hierarchy { controllers, mount: mount.point, path });
    }
    // Without it nothing would keep a container from the host's devices.
    if !hierarchies.iter().any(|hierarchy| hierarchy.has("devices")) {
        return Err(CgroupError::NoHierarchy(
            "neither cgroup v2 on /sys/fs/cgroup nor a v1 devices controller is mounted".to_owned(),
        ));
    }
    // Limits, device rules and freezing are v1's; the v2 hierarchy comes last, as an addition.
    hierarchies.sort_by_key(Hierarchy::is_v2);
    Ok(Cgroup { mode, driver: Driver::Cgroupfs, hierarchies, refused: Vec::new(), id: None })
}

/// A mount of a cgroup filesystem.
struct Mount {
    /// The directory of the hierarchy that the mount shows.
    root: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
    /// The filesystem's own options, which name v1's controllers.
    options: String,
}

/// A line of /proc/self/mountinfo (proc_pid_mountinfo(5)); `Some(None)` for other filesystems.
/// With the mount comes whether it is v1.
fn parse_mount(line: &str) -> Option<Option<(Mount, bool)>> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let v1 = match right.next()? {
        "cgroup" => true,
        "cgroup2" => false,
        _ => return Some(None),
    };
    let options = right.nth(1)?.to_owned();
    let mut left = left.split(' ').skip(3);
    let root = mountinfo::unescape(left.next()?.as_bytes());
    let point = mountinfo::unescape(left.next()?.as_bytes());
    Some(Some((Mount { root, point, options }, v1)))
}

/// The controllers of a mount as /proc/self/cgroup lists them, and gpurun's own place there.
fn own_hierarchy<'o>(own: &'o str, mount: &Mount, v1: bool) -> Option<(Vec<String>, &'o str)> {
    if !v1 {
        return own_path(own, |id, list| id == "0" && list.is_empty())
            .map(|path| (Vec::new(), path));
    }
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, list, path) = (fields.next()?, fields.next()?, fields.next()?);
        let first = list.split(',').next().filter(|name| !name.is_empty())?;
        let mounted = mount.options.split(',').any(|option| option == first);
        mounted.then(|| (list.split(',').map(str::to_owned).collect(), path))
    })
}

/// gpurun's own path in the hierarchy that `is` picks by id and controller list.
fn own_path(own: &str, is: impl Fn(&str, &str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, list, path) = (fields.next()?, fields.next()?, fields.next()?);
        is(id, list).then_some(path)
    })
}

/// `own` relative to the directory that the mount shows.
fn below(own: &Path, root: &Path) -> Result<PathBuf, CgroupError> {
    let outside = || CgroupError::Path {
        path: own.to_owned(),
        reason: format!(
            "gpurun's own cgroup is outside of what is mounted ({}), so a relative path has \
             nothing to count from; give an absolute cgroupsPath",
            root.display()
        ),
    };
    let inside = own.strip_prefix(root).map_err(|_| outside())?;
    relative(inside).map_err(|_| outside())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 20 0:19 / /proc rw - proc proc rw
30 20 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
35 30 0:30 / /mnt/a\\040copy rw - cgroup cgroup rw,devices
";
    const OWN: &str =
        "5:cpu,cpuacct:/docker/x/inner\n3:devices:/\n1:name=systemd:/user\n0::/user/me\n";

    fn v1(path: Option<&str>) -> Result<Cgroup, CgroupError> {
        locate_v1(&Wanted::parse(path.map(Path::new), "box")?, MOUNTS, OWN)
    }

    fn dirs(cgroup: &Cgroup) -> Vec<String> {
        cgroup.hierarchies.iter().map(|h| h.dir().display().to_string()).collect()
    }

    #[test]
    fn an_absolute_path_counts_from_the_root_of_each_hierarchy() {
        let cgroup = v1(Some("/pod/box/")).unwrap();
        assert_eq!(cgroup.mode, Mode::Hybrid);
        assert_eq!(
            dirs(&cgroup),
            [
                "/sys/fs/cgroup/systemd/pod/box",
                "/sys/fs/cgroup/cpu,cpuacct/pod/box",
                "/sys/fs/cgroup/devices/pod/box",
                "/sys/fs/cgroup/unified/pod/box",
            ]
        );
    }

    #[test]
    fn a_relative_path_counts_from_the_own_cgroup_and_the_id_stands_in_for_none() {
        let wanted = [
            "/sys/fs/cgroup/systemd/user/box",
            "/sys/fs/cgroup/cpu,cpuacct/inner/box",
            "/sys/fs/cgroup/devices/box",
            "/sys/fs/cgroup/unified/user/me/box",
        ];
        assert_eq!(dirs(&v1(Some("box")).unwrap()), wanted);
        assert_eq!(dirs(&v1(None).unwrap()), wanted);
        assert_eq!(dirs(&v1(Some("")).unwrap()), wanted);
    }

    #[test]
    fn on_v2_a_relative_path_counts_from_the_parent_of_the_own_cgroup() {
        let root = Path::new("/sys/fs/cgroup");
        let at = |path: &str, own: &str| {
            let cgroup = locate_v2(root, &Wanted::parse(Some(Path::new(path)), "i").unwrap(), own);
            cgroup.map(|cgroup| dirs(&cgroup).join(","))
        };
        assert_eq!(at("box", "0::/user/me\n").unwrap(), "/sys/fs/cgroup/user/box");
        assert_eq!(at("box", "0::/\n").unwrap(), "/sys/fs/cgroup/box");
        assert_eq!(at("/a/box", "").unwrap(), "/sys/fs/cgroup/a/box");
        assert!(at("box", "0::/../x\n").unwrap_err().to_string().contains("outside"));
    }

    #[test]
    fn paths_that_lead_out_of_or_are_the_root_are_refused() {
        for path in ["/", "//", "..", "/a/../b", "a/..", "a\nb", "./"] {
            let err = v1(Some(path)).unwrap_err().to_string();
            assert!(err.starts_with("invalid cgroupsPath"), "{path:?}: {err}");
        }
        assert!(v1(Some("/a/./b")).is_ok());
    }

    #[test]
    fn a_machine_without_the_devices_controller_is_refused() {
        let mounts = MOUNTS.replace("rw,devices", "rw,other");
        let wanted = Wanted::parse(None, "box").unwrap();
        let err = locate_v1(&wanted, &mounts, OWN).unwrap_err();
        assert!(err.to_string().contains("devices controller"), "{err}");
    }

    #[test]
    fn asking_for_systemd_where_it_does_not_run_is_an_error_that_says_what_to_do() {
        if Path::new("/run/systemd/system").exists() {
            println!("skipped: systemd runs here");
            return;
        }
        let err = Cgroup::locate(None, "box", true).unwrap_err();
        assert!(err.to_string().contains("--systemd-cgroup"));
    }

    #[test]
    fn the_driver_is_kept_in_the_state_as_it_was_before_there_was_a_second_one() {
        let cgroup = v1(Some("/box")).unwrap();
        assert!(serde_json::to_string(&cgroup).unwrap().contains(r#""driver":"cgroupfs""#));
        let unit = Unit {
            name: "a-b.scope".to_owned(),
            slice: "system.slice".to_owned(),
            instance: crate::cgroup::systemd::Instance::System,
        };
        let cgroup = Cgroup { driver: Driver::Systemd(unit), ..cgroup };
        let json = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), cgroup);
    }

    #[test]
    fn this_machine_is_understood() {
        let cgroup = Cgroup::locate(Some(Path::new("/gpurun-test-nowhere")), "x", false).unwrap();
        assert!(cgroup.hierarchies.iter().all(|h| h.mount.is_dir()), "{cgroup:?}");
        assert!(!cgroup.exists());
        let json = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), cgroup);
    }

    #[test]
    fn a_sub_cgroup_stays_below_the_container_s() {
        let cgroup = v1(Some("/box")).unwrap();
        let several = |subs: &[&str]| cgroup.child(subs).map(|child| dirs(&child));
        let dirs = |sub: &str| several(&[sub]);
        assert_eq!(dirs("/").unwrap()[2], "/sys/fs/cgroup/devices/box");
        assert_eq!(dirs("sub").unwrap()[3], "/sys/fs/cgroup/unified/box/sub");
        let only = dirs("cpu:sub").unwrap();
        assert_eq!(only[1], "/sys/fs/cgroup/cpu,cpuacct/box/sub");
        assert_eq!(only[2], "/sys/fs/cgroup/devices/box");
        let both = several(&["cpu,cpuacct:a", "devices:b"]).unwrap();
        assert_eq!(
            both[1..3],
            ["/sys/fs/cgroup/cpu,cpuacct/box/a", "/sys/fs/cgroup/devices/box/b"]
        );
        let refused = |subs: &[&str], why: &str| {
            let error = several(subs).unwrap_err().to_string();
            assert!(error.contains(why), "{subs:?}: {error}");
        };
        refused(&["../x"], "bad sub cgroup path");
        refused(&["nothing:x"], "unknown controller nothing");
        refused(&[":x"], "empty <controller> prefix");
        refused(&["a", "b"], "missing <controller>: prefix");
        refused(&["cpu:a", "cpu:b"], "controller cpu specified multiple times");
    }
}
