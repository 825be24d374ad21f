//! config.json, starting from what an engine would write and changed field by field.

use serde_json::{Map, Value, json};

/// The capabilities that Docker gives to a container.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A config.json in the making.
#[derive(Debug, Clone)]
pub struct Config(Value);

impl Config {
    /// An ordinary container that runs `args`.
    pub fn args(args: &[&str]) -> Config {
        let caps = json!(CAPABILITIES);
        Config(json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/bin:/usr/bin", "HOME=/root"],
                "cwd": "/",
                "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
                "noNewPrivileges": true
            },
            "root": {"path": "rootfs", "readonly": false},
            "hostname": "box",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev", "ro"]}
            ],
            "linux": {
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                    {"type": "mount"}
                ],
                "maskedPaths": ["/proc/kcore", "/proc/acpi", "/proc/keys", "/proc/timer_list",
                                "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                  "/proc/sysrq-trigger"]
            }
        }))
    }

    /// An ordinary container that runs a shell script.
    pub fn sh(script: &str) -> Config {
        Config::args(&["sh", "-c", script])
    }

    /// A container that does nothing for longer than any test.
    pub fn idle() -> Config {
        Config::args(&["sleep", "1000"])
    }

    /// Sets the value at a JSON pointer; missing objects on the way are made.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Config {
        *self.place(pointer) = value;
        self
    }

    /// Appends to the array at a JSON pointer; a missing array is made.
    #[must_use]
    pub fn push(mut self, pointer: &str, value: Value) -> Config {
        let place = self.place(pointer);
        match place {
            Value::Array(items) => items.push(value),
            other => *other = json!([value]),
        }
        self
    }

    /// Removes the member at a JSON pointer.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Config {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        if let Value::Object(members) = self.place(parent) {
            members.remove(key);
        }
        self
    }

    /// Adds a mount.
    #[must_use]
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Config {
        self.push(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }

    /// Removes the mount on `destination`.
    #[must_use]
    pub fn without_mount(mut self, destination: &str) -> Config {
        if let Value::Array(mounts) = self.place("/mounts") {
            mounts.retain(|mount| mount["destination"] != destination);
        }
        self
    }

    /// Removes `/dev` and what is mounted in it: the image's own directory is used.
    #[must_use]
    pub fn without_dev(self) -> Config {
        let points = ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
        points.iter().fold(self, |config, point| config.without_mount(point))
    }

    /// Replaces the namespace of a type: `None` leaves the host's, `Some("")` makes a new one,
    /// `Some(path)` joins.
    #[must_use]
    pub fn namespace(mut self, kind: &str, path: Option<&str>) -> Config {
        if let Value::Array(namespaces) = self.place("/linux/namespaces") {
            namespaces.retain(|namespace| namespace["type"] != kind);
            match path {
                None => {}
                Some("") => namespaces.push(json!({"type": kind})),
                Some(path) => namespaces.push(json!({"type": kind, "path": path})),
            }
        }
        self
    }

    /// Sets all five capability sets to `names`; `ambient` and `inheritable` only where asked.
    #[must_use]
    pub fn capabilities(self, names: &[&str], ambient: bool) -> Config {
        let inherited: &[&str] = if ambient { names } else { &[] };
        self.set(
            "/process/capabilities",
            json!({"bounding": names, "effective": names, "permitted": names,
                   "inheritable": inherited, "ambient": inherited}),
        )
    }

    /// Adds a hook of the kind `kind`.
    #[must_use]
    pub fn hook(self, kind: &str, hook: Value) -> Config {
        self.push(&format!("/hooks/{kind}"), hook)
    }

    /// The finished document.
    pub fn json(&self) -> &Value {
        &self.0
    }

    fn place(&mut self, pointer: &str) -> &mut Value {
        let mut place = &mut self.0;
        for key in pointer.split('/').skip(1) {
            if place.is_array()
                && let Ok(index) = key.parse::<usize>()
            {
                place = &mut place[index];
                continue;
            }
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[key];
        }
        place
    }
}
