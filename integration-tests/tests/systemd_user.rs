//! `--systemd-cgroup` of an ordinary user: scopes of the user's own `systemd --user`.
//!
//! Needs a machine that systemd runs and a user with a service manager that has controllers
//! delegated, such as the one of `hack/vm`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::cgroup::{self, Version};
use integration_tests::container::text;
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::runtime::finish;
use integration_tests::{Config, Output, Runtime, json, ordinary_user, rootfs, skipped, wait_for};
use tempfile::TempDir;

/// The user, and a directory with the bundles of one test.
struct User {
    id: u32,
    directory: TempDir,
    /// What the runtime finds in its environment, besides `PATH`.
    env: Vec<(&'static str, String)>,
}

/// The ids of users whose systemd runs; it listens in their runtime directory.
fn users() -> Vec<u32> {
    let entries = fs::read_dir("/run/user").into_iter().flatten().flatten();
    let ids = entries.filter(|entry| entry.path().join("systemd/private").exists());
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|id| *id != 0).collect()
}

/// The user, unless there is none.
fn user() -> Option<User> {
    if Version::of_host() != Version::V2 {
        skipped("a user's systemd owns cgroups on cgroup v2 only");
        return None;
    }
    let Some(id) = users().into_iter().min() else {
        skipped("no ordinary user's systemd runs here (loginctl enable-linger USER)");
        return None;
    };
    let directory = tempfile::Builder::new()
        .prefix("gpurun-test-user-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("create a temporary directory");
    fs::copy(Runtime::binary(), directory.path().join("gpurun")).expect("copy the runtime");
    let run = format!("/run/user/{id}");
    let env = vec![
        ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={run}/bus")),
        ("XDG_RUNTIME_DIR", run),
    ];
    Some(User { id, directory, env })
}

macro_rules! user {
    () => {
        match user() {
            Some(user) => user,
            None => return,
        }
    };
}

impl User {
    /// A name of a container that no other test has.
    fn name(&self, suffix: &str) -> String {
        let unique = self.directory.path().file_name().and_then(|name| name.to_str());
        format!("{}-{suffix}", unique.expect("UTF-8 path").trim_start_matches("gpurun-test-"))
    }

    fn command(&self, program: &Path) -> Command {
        let id = self.id.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--init-groups", "--"])
            .arg(program)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    #[track_caller]
    fn call(&self, args: &[&str]) -> Output {
        finish(self.command(&self.directory.path().join("gpurun")).args(args), b"")
    }

    #[track_caller]
    fn systemctl(&self, args: &[&str]) -> String {
        let mut command = self.command(Path::new("systemctl"));
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", self.id));
        finish(command.arg("--user").args(args), b"").ok().to_owned()
    }

    #[track_caller]
    fn show(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", unit, "--value", "--property", property])
    }

    fn bundle(&self, name: &str, config: &Config) -> PathBuf {
        let bundle = self.directory.path().join(name);
        fs::create_dir(&bundle).expect("create the bundle");
        rootfs::build(&bundle.join("rootfs"));
        fs::write(bundle.join("config.json"), config.json().to_string()).expect("write the spec");
        rootfs::give_to(&bundle, self.id, self.id);
        bundle
    }

    /// What an ordinary user can have, with this user as root and with limits.
    fn config(&self, config: Config) -> Config {
        let own = json!([{"containerID": 0, "hostID": self.id, "size": 1}]);
        let limits = config.json()["linux"]["resources"].clone();
        ordinary_user::config(config)
            .set("/linux/uidMappings", own.clone())
            .set("/linux/gidMappings", own)
            .set("/linux/resources", limits)
    }

    /// A container whose scope is `test-ID.scope`, in the background.
    #[track_caller]
    fn running(&self, suffix: &str, config: Config) -> Scope<'_> {
        let id = self.name(suffix);
        let config = self.config(config).set("/linux/cgroupsPath", json!(format!(":test:{id}")));
        let bundle = self.bundle(&id, &config);
        let scope = Scope { user: self, unit: format!("test-{id}.scope"), id };
        self.call(&["--systemd-cgroup", "run", "--detach", "--bundle", text(&bundle), &scope.id])
            .silent();
        scope
    }
}

/// A container; it ends with the value.
struct Scope<'a> {
    user: &'a User,
    id: String,
    unit: String,
}

impl Scope<'_> {
    fn property(&self, name: &str) -> String {
        self.user.show(&self.unit, name)
    }

    #[track_caller]
    fn file(&self, name: &str) -> String {
        let dir = format!("/sys/fs/cgroup{}", self.property("ControlGroup"));
        fs::read_to_string(Path::new(&dir).join(name))
            .expect("a file of the cgroup")
            .trim()
            .to_owned()
    }

    #[track_caller]
    fn exec(&self, args: &[&str]) -> Output {
        self.user.call(&[&["exec", &*self.id], args].concat())
    }

    #[track_caller]
    fn assert_gone(&self) {
        assert_eq!(self.property("LoadState"), "not-found");
        let place =
            format!("/sys/fs/cgroup/user.slice/user-{0}.slice/user@{0}.service", self.user.id);
        let slice = Path::new(&place).join("user.slice").join(&self.unit);
        assert!(!slice.exists(), "{slice:?} is left");
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let _ = finish(
            self.user
                .command(&self.user.directory.path().join("gpurun"))
                .args(["delete", "--force", &self.id]),
            b"",
        );
    }
}

#[test]
fn a_users_container_is_a_scope_of_the_users_own_systemd() {
    let user = user!();
    let scope = user.running("scope", Config::idle());
    let own = format!("/user.slice/user-{0}.slice/user@{0}.service", user.id);
    let place = format!("{own}/user.slice/{}", scope.unit);
    assert_eq!(scope.property("ControlGroup"), place);
    assert_eq!(scope.property("ActiveState"), "active");
    assert_eq!(scope.property("Delegate"), "yes");
    let state = user.call(&["state", &scope.id]).json();
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).expect("cgroup");
    assert_eq!(cgroup.trim(), format!("0::{place}"));
    // The runtime comes from elsewhere, and what it starts in the container is there as well.
    let file = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
    assert!(!file.contains(&own), "the test itself is a service of that user");
    let mut exec = user.command(&user.directory.path().join("gpurun"));
    exec.args(["exec", "--detach", &scope.id, "sleep", "1000"]);
    finish(&mut exec, b"").silent();
    assert_eq!(scope.file("cgroup.procs").lines().count(), 2);
    assert_eq!(
        user.call(&["ps", "--format", "json", &scope.id]).json().as_array().map(Vec::len),
        Some(2)
    );
    user.call(&["kill", &scope.id, "KILL"]).silent();
    wait_for("the end", || user.call(&["state", &scope.id]).json()["status"] == "stopped");
    user.call(&["delete", &scope.id]).silent();
    scope.assert_gone();
}

#[test]
fn limits_hold_and_update_changes_them() {
    let user = user!();
    let limits = json!({
        "memory": {"limit": 67_108_864_u64}, "pids": {"limit": 77},
        "cpu": {"shares": 1024, "quota": 20_000, "period": 100_000, "cpus": "0"},
        "unified": {"memory.high": "50331648"},
    });
    let scope = user.running("limits", Config::idle().set("/linux/resources", limits));
    let files = |scope: &Scope<'_>| {
        ["memory.max", "pids.max", "cpu.max", "cpuset.cpus", "memory.high"]
            .map(|name| scope.file(name))
    };
    assert_eq!(files(&scope), ["67108864", "77", "20000 100000", "0", "50331648"]);
    assert_eq!(scope.property("MemoryMax"), "67108864");
    assert_eq!(scope.property("TasksMax"), "77");
    user.systemctl(&["daemon-reload"]);
    assert_eq!(files(&scope), ["67108864", "77", "20000 100000", "0", "50331648"]);
    user.call(&["update", "--pids-limit", "99", "--memory", "134217728", &scope.id]).ok();
    for when in ["after update", "after daemon-reload"] {
        assert_eq!(scope.property("TasksMax"), "99", "{when}");
        assert_eq!(files(&scope)[..2], ["134217728", "99"], "{when}");
        user.systemctl(&["daemon-reload"]);
    }
    // A limit that bites.
    let tight = json!({"pids": {"limit": 3}});
    let tight = user.running("tight", Config::idle().set("/linux/resources", tight));
    let forks =
        tight.exec(&["sh", "-c", "sleep 5 & sleep 5 & sleep 5 & sleep 5 & kill $(jobs -p)"]);
    assert!(forks.stderr.contains("fork"), "{forks:?}");
}

#[test]
fn pause_events_and_delete_by_force_work_as_the_user() {
    let user = user!();
    let scope = user.running("pause", Config::idle());
    user.call(&["pause", &scope.id]).ok();
    assert_eq!(user.call(&["state", &scope.id]).json()["status"], "paused");
    assert_eq!(scope.file("cgroup.freeze"), "1");
    user.call(&["resume", &scope.id]).ok();
    let events = user.call(&["events", "--stats", &scope.id]).json();
    assert_eq!(events["data"]["pids"]["current"], 1, "{events}");
    user.call(&["pause", &scope.id]).ok();
    user.call(&["delete", "--force", &scope.id]).silent();
    scope.assert_gone();
}

#[test]
fn delete_leaves_no_unit_also_after_a_create_that_fails() {
    let user = user!();
    let id = user.name("fails");
    let config = user
        .config(Config::args(&["/bin/nothing"]))
        .set("/linux/cgroupsPath", json!(format!(":test:{id}")));
    let bundle = user.bundle(&id, &config);
    let run = ["--systemd-cgroup", "run", "--bundle", text(&bundle), &id];
    user.call(&run).refused(1, &["/bin/nothing"]);
    let scope = Scope { user: &user, unit: format!("test-{id}.scope"), id };
    scope.assert_gone();
    // The name can be used at once.
    let config = user
        .config(Config::args(&["true"]))
        .set("/linux/cgroupsPath", json!(format!(":test:{}", scope.id)));
    fs::write(bundle.join("config.json"), config.json().to_string()).expect("write the spec");
    user.call(&["--systemd-cgroup", "run", "--bundle", text(&bundle), &scope.id]).silent();
    wait_for("the unit to go", || scope.property("LoadState") == "not-found");
}

#[test]
fn systemd_is_found_by_the_runtime_directory_alone_and_without_a_bus() {
    let mut user = user!();
    let directory = ("XDG_RUNTIME_DIR", format!("/run/user/{}", user.id));
    let nowhere = ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere".to_owned());
    for (name, env) in [("directory", vec![directory.clone()]), ("nobus", vec![directory, nowhere])]
    {
        user.env = env;
        let scope = user.running(name, Config::idle());
        assert_eq!(scope.property("ActiveState"), "active", "{name}");
        user.call(&["delete", "--force", &scope.id]).silent();
        scope.assert_gone();
    }
}

#[test]
fn a_slice_of_the_user_is_made_and_the_default_name_has_the_id() {
    let user = user!();
    let id = user.name("slice");
    let config = user
        .config(Config::idle())
        .set("/linux/cgroupsPath", json!(format!("gpuruntest-b.slice:test:{id}")));
    let bundle = user.bundle(&id, &config);
    user.call(&["--systemd-cgroup", "run", "--detach", "--bundle", text(&bundle), &id]).silent();
    let place = user.show(&format!("test-{id}.scope"), "ControlGroup");
    let expected =
        format!("user@{}.service/gpuruntest.slice/gpuruntest-b.slice/test-{id}.scope", user.id);
    assert!(place.ends_with(&expected), "{place}");
    user.call(&["delete", "--force", &id]).silent();
    user.systemctl(&["stop", "gpuruntest-b.slice", "gpuruntest.slice"]);

    let id = user.name("default");
    let bundle = user.bundle(&id, &user.config(Config::idle()).remove("/linux/cgroupsPath"));
    user.call(&["--systemd-cgroup", "run", "--detach", "--bundle", text(&bundle), &id]).silent();
    let place = user.show(&format!("gpurun-{id}.scope"), "ControlGroup");
    assert!(place.ends_with(&format!("/user.slice/gpurun-{id}.scope")), "{place}");
    user.call(&["delete", "--force", &id]).silent();
}

#[test]
fn a_gpu_container_of_the_user_is_a_scope_too() {
    let user = user!();
    let host =
        match MadeUpHost::build(&user.directory.path().join("machine"), &Layout::with_gpus(2)) {
            Ok(host) => host,
            Err(error) => return skipped(&format!("cannot make a machine up: {error}")),
        };
    let user = User {
        env: [user.env, vec![("GPURUN_CONFIG", text(&host.config()).to_owned())]].concat(),
        ..user
    };
    let config = Config::idle().push("/process/env", json!("NVIDIA_VISIBLE_DEVICES=1"));
    let scope = user.running("gpu", config);
    let check = |when: &str| {
        let opened = scope.exec(&["cat", "/dev/nvidia1"]);
        assert!(opened.stderr.contains("No such device or address"), "{when}: {opened:?}");
    };
    check("at first");
    user.systemctl(&["daemon-reload"]);
    check("after daemon-reload");
}

#[test]
fn without_the_users_systemd_the_error_says_what_is_missing() {
    let user = user!();
    let user = User {
        env: vec![
            ("XDG_RUNTIME_DIR", text(user.directory.path()).to_owned()),
            ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus".to_owned()),
        ],
        ..user
    };
    let id = user.name("nobus");
    let bundle = user.bundle(&id, &user.config(Config::idle()));
    let state = user.directory.path().join("state");
    fs::create_dir(&state)
        .and_then(|()| std::os::unix::fs::chown(&state, Some(user.id), Some(user.id)))
        .expect("state");
    let args = ["--root", text(&state), "--systemd-cgroup", "run", "--bundle", text(&bundle), &id];
    user.call(&args).refused(1, &["/nowhere/bus"]);
    assert!(cgroup::containing(&id).is_empty());
}
