//! A user without privileges, with ranges of subordinate ids.
//!
//! No account is made: programs run under a number that nobody has, in a mount namespace where
//! /etc/passwd and its companions are copies that know it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::runtime::{self, Output};
use crate::{Config, Runtime, cgroup, json, leak, rootfs, v2};

/// The user's id and that of their group.
pub const ID: u32 = 54321;
/// The first of their subordinate ids, and how many there are.
pub const SUBORDINATE: (u32, u32) = (1_879_048_192, 65536);
/// A group that they are a member of, with an id that no group of the machine should have.
pub const GROUP: u32 = 54322;

const SCRIPT: &str = r#"
for file in passwd group subuid subgid; do mount --bind "$ETC/$file" "/etc/$file" || exit; done
if [ -n "$JOIN" ]; then
    echo 0 > "$JOIN/cgroup.procs" || exit
    [ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit
fi
exec setpriv --reuid "$ID" --regid "$ID" --init-groups env -u ETC -u JOIN -u ID "$@"
"#;

/// The user with a home, a runtime directory and a copy of the runtime under test.
#[derive(Debug)]
pub struct OrdinaryUser {
    directory: TempDir,
    /// The v2 cgroup that the user's programs are started in; with it they see cgroup v2.
    cgroup: Option<PathBuf>,
}

impl Default for OrdinaryUser {
    fn default() -> Self {
        Self::new()
    }
}

impl OrdinaryUser {
    /// Makes the directories and files; nothing outside the temporary directory changes.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("gpurun-test-user-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("create a temporary directory");
        let user = Self { directory, cgroup: None };
        fs::create_dir(user.path("etc")).expect("create etc");
        let home = user.path("home");
        let lines = [
            ("passwd", format!("tester:x:{ID}:{ID}::{}:/bin/sh\n", home.display())),
            ("group", format!("tester:x:{ID}:\nextra:x:{GROUP}:tester\n")),
            ("subuid", format!("tester:{}:{}\n", SUBORDINATE.0, SUBORDINATE.1)),
            ("subgid", format!("tester:{}:{}\n", SUBORDINATE.0, SUBORDINATE.1)),
        ];
        for (name, line) in lines {
            let machine = fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
            fs::write(user.path("etc").join(name), machine + &line).expect("write a file of etc");
        }
        for name in ["home", "run"] {
            fs::create_dir(user.path(name)).expect("create a directory");
            fs::set_permissions(user.path(name), fs::Permissions::from_mode(0o700)).expect("chmod");
            user.give(&user.path(name));
        }
        // The build may lie where only root comes.
        fs::copy(Runtime::binary(), user.binary()).expect("copy the runtime");
        user
    }

    /// The same user in a cgroup v2 world, in a cgroup that is delegated to them: they may make
    /// cgroups beside their own. `None` where the host has no cgroup v2.
    pub fn with_delegated_cgroup() -> Option<Self> {
        let there = cgroup::Version::of_host() == cgroup::Version::V2;
        let unified = cgroup::unified().filter(|_| there || v2::possible())?;
        let mut user = Self::new();
        let parent = unified.join(user.mark());
        let own = parent.join("own");
        fs::create_dir(&parent).and_then(|()| fs::create_dir(&own)).expect("create cgroups");
        for dir in [&parent, &own] {
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                user.give(&dir.join(file));
            }
        }
        user.cgroup = Some(own);
        Some(user)
    }

    /// Whether the machine lets a user map subordinate ids.
    pub fn has_id_ranges() -> bool {
        let there = |name: &str| Path::new("/usr/bin").join(name).exists();
        there("newuidmap") && there("newgidmap")
    }

    /// What everything that belongs to this user has in its name.
    pub fn mark(&self) -> &str {
        self.directory.path().file_name().and_then(|name| name.to_str()).expect("UTF-8 path")
    }

    /// A path in the user's directory: `home/…` and `run/…` are theirs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The copy of the runtime.
    pub fn binary(&self) -> PathBuf {
        self.path(if Runtime::is_gpurun() { "gpurun" } else { "runtime" })
    }

    /// Makes the user the owner of `path`.
    pub fn give(&self, path: &Path) {
        chown(path, Some(ID), Some(ID)).expect("chown");
    }

    /// A command of the user's; arguments are still to be added.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"])
            .arg(program)
            .current_dir(self.path("home"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("ETC", self.path("etc"))
            .env("ID", ID.to_string())
            .env("USER", "tester")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"));
        if let Some(cgroup) = &self.cgroup {
            command.env("JOIN", cgroup);
        }
        command
    }

    /// Calls the runtime.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Output {
        runtime::finish(self.command(&self.binary()).args(args), b"")
    }

    /// A bundle of the user's in their home, with a rootfs of theirs.
    pub fn bundle(&self, name: &str, config: &Config) -> PathBuf {
        let bundle = self.path("home").join(name);
        fs::create_dir(&bundle).expect("create the bundle");
        rootfs::build(&bundle.join("rootfs"));
        fs::write(bundle.join("config.json"), config.json().to_string()).expect("write the spec");
        rootfs::give_to(&bundle, ID, ID);
        bundle
    }

    /// `run` of a new bundle to the end of the container's process.
    #[track_caller]
    pub fn run(&self, name: &str, config: &Config) -> Output {
        let bundle = self.bundle(name, config);
        self.call(&["run", "--bundle", crate::container::text(&bundle), name])
    }

    /// `run --detach` of a new bundle, which must succeed.
    #[track_caller]
    pub fn start(&self, name: &str, config: &Config) {
        let bundle = self.bundle(name, config);
        self.call(&["run", "--detach", "--bundle", crate::container::text(&bundle), name]).silent();
    }

    /// What the state root holds, processes and cgroups of this user's containers.
    pub fn leftovers(&self) -> Vec<String> {
        let state = fs::read_dir(self.path("run/gpurun")).into_iter().flatten().flatten();
        let state = state.map(|entry| format!("state {:?}", entry.file_name()));
        let own = self.cgroup.iter().flat_map(|own| [own.clone(), own.with_file_name("")]);
        let own: Vec<PathBuf> = own.map(|dir| dir.components().collect()).collect();
        let cgroups = cgroup::containing(self.mark()).into_iter().filter(|dir| !own.contains(dir));
        state
            .chain(leak::processes(self.mark()).into_iter().map(|it| format!("process {it:?}")))
            .chain(cgroups.map(|dir| format!("cgroup {}", dir.display())))
            .collect()
    }
}

impl Drop for OrdinaryUser {
    fn drop(&mut self) {
        let left = self.leftovers();
        for (pid, _) in leak::processes(self.mark()) {
            cgroup::kill(pid);
        }
        if self.cgroup.is_some() {
            cgroup::sweep(self.mark());
        }
        if !std::thread::panicking() {
            assert_eq!(left, Vec::<String>::new(), "left behind by an ordinary user");
        }
    }
}

/// `config` as an ordinary user can have it: the own id as root, the host's network and /sys, no
/// rules and no ids that are not there.
pub fn config(config: Config) -> Config {
    let own = json!([{"containerID": 0, "hostID": ID, "size": 1}]);
    config
        .namespace("network", None)
        .namespace("user", Some(""))
        .namespace("cgroup", Some(""))
        .set("/linux/uidMappings", own.clone())
        .set("/linux/gidMappings", own)
        .remove("/linux/resources")
        .without_mount("/sys")
        .mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
        .without_mount("/dev/pts")
        .mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666"],
        )
}

/// `config` with the user's subordinate ids from 1 on.
pub fn with_range(config: Config) -> Config {
    let map = json!([
        {"containerID": 0, "hostID": ID, "size": 1},
        {"containerID": 1, "hostID": SUBORDINATE.0, "size": SUBORDINATE.1},
    ]);
    config.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
}
