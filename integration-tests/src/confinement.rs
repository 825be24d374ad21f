//! What confines a process of a container, as text that can be compared.
//!
//! Half is read on the host, from `/proc/PID`; the other half a program in the container says.

use std::fs;
use std::path::Path;

/// A shell script that prints what can be seen and tried from inside. It needs the probe `nodes`
/// in the image.
pub const SCRIPT: &str = "hostname
cat /proc/sys/net/core/somaxconn /sys/class/net/lo/flags
umask; pwd
head -c 1 /proc/kcore | wc -c; ls /sys/firmware | wc -l
echo x > /proc/sys/kernel/hostname; echo x > /proc/sysrq-trigger; touch /sys/fs/x
nodes nodes
nodes make 1:1 1:3 5:1 10:200 195:0 195:1 195:255 226:128 511:0";

/// Lines of `/proc/PID/status` that say what a process may.
const STATUS: [&str; 15] = [
    "Uid",
    "Gid",
    "Groups",
    "Umask",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed",
    "SigBlk",
    "SigIgn",
];

/// What the host sees of a process: rights, limits, namespaces, mounts, descriptors, environment.
pub fn of_process(pid: i64) -> String {
    let dir = Path::new("/proc").join(pid.to_string());
    let read = |name: &str| {
        let bytes = fs::read(dir.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let mut lines: Vec<String> = Vec::new();
    let status = read("status");
    let told = |line: &&str| line.split_once(':').is_some_and(|(name, _)| STATUS.contains(&name));
    lines.extend(status.lines().filter(told).map(str::to_owned));
    for file in
        ["limits", "environ", "cgroup", "oom_score_adj", "uid_map", "gid_map", "attr/current"]
    {
        lines.extend(read(file).lines().map(|line| format!("{file}: {line}")));
    }
    lines.push(format!("cwd {:?}", fs::read_link(dir.join("cwd"))));
    for space in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let own = fs::read_link(Path::new("/proc/self/ns").join(space)).ok();
        let shared = fs::read_link(dir.join("ns").join(space)).ok() == own;
        lines.push(format!("{space} namespace of the host: {shared}"));
    }
    lines.extend(read("mountinfo").lines().map(mount));
    let mut open: Vec<String> = fs::read_dir(dir.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| format!("descriptor {}", entry.file_name().display()))
        .collect();
    open.sort();
    lines.extend(open);
    lines.join("\n")
}

/// A line of mountinfo without what is another number each time.
fn mount(line: &str) -> String {
    let fields = line.split(' ').skip(3).filter(|field| {
        // Propagation: whether, not with whom.
        field.strip_prefix("master:").is_none_or(|n| n.parse::<u32>().is_err())
    });
    let fields: Vec<&str> =
        fields.map(|field| if field.starts_with("shared:") { "shared" } else { field }).collect();
    format!("mount {}", fields.join(" "))
}

/// The lines in which two texts differ.
pub fn differences(before: &str, after: &str) -> Vec<String> {
    let lacks = |text: &str, line: &str| !text.lines().any(|other| other == line);
    let gone = before.lines().filter(|line| lacks(after, line)).map(|line| format!("-{line}"));
    let new = after.lines().filter(|line| lacks(before, line)).map(|line| format!("+{line}"));
    gone.chain(new).collect()
}
