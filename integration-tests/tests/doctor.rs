//! `gpurun doctor`: the machine that the test runs on, and bundles with something wrong.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::runtime::Runtime;
use serde_json::{Value, json};
use tempfile::TempDir;

fn doctor(args: &[&str], config: Option<&Path>) -> (i32, String) {
    let mut command = Command::new(Runtime::binary());
    command.arg("doctor").args(args);
    if let Some(config) = config {
        command.env("GPURUN_CONFIG", config);
    }
    let output = command.output().expect("gpurun doctor");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("exit code"), text)
}

/// A bundle whose program is a script of `/bin/sh`, which is there.
struct Bundle {
    dir: TempDir,
    config: Value,
}

impl Bundle {
    fn new() -> Self {
        let dir = TempDir::new().expect("directory");
        let bundle = Self {
            dir,
            config: json!({
                "ociVersion": "1.0.2",
                "process": {
                    "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["run"],
                    "env": ["PATH=/bin"],
                },
                "root": {"path": "rootfs"},
                "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
                "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
            }),
        };
        bundle.file("rootfs/bin/run", "#!/bin/sh\n", 0o755);
        bundle.file("rootfs/bin/sh", "", 0o755);
        bundle
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(&path, content).expect("file");
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    }

    fn look(&self) -> (i32, Vec<Value>) {
        self.look_on(None)
    }

    fn look_on(&self, machine: Option<&Path>) -> (i32, Vec<Value>) {
        let config = self.dir.path().join("config.json");
        std::fs::write(config, self.config.to_string()).expect("config.json");
        let dir = self.dir.path().to_str().expect("UTF-8");
        let (status, text) = doctor(&["--json", "--bundle", dir], machine);
        let mut report: Value = serde_json::from_str(&text).expect("JSON");
        let Value::Array(findings) = report["findings"].take() else { panic!("{report}") };
        (status, findings)
    }

    /// Breaks the bundle and expects a red finding with these words.
    #[track_caller]
    fn breaks(harm: impl Fn(&mut Self), check: &str, found: &str, remedy: &str) {
        let mut bundle = Self::new();
        harm(&mut bundle);
        let (status, findings) = bundle.look();
        expect(&findings, check, "red", found, remedy);
        assert_eq!(status, 1, "{findings:#?}");
    }
}

#[track_caller]
fn expect(findings: &[Value], check: &str, verdict: &str, found: &str, remedy: &str) {
    let has = |one: &Value, field: &str, text: &str| {
        one[field].as_str().unwrap_or_default().contains(text)
    };
    let is_it = |one: &&Value| {
        one["check"] == check && one["verdict"] == verdict && has(one, "found", found)
    };
    let Some(one) = findings.iter().find(is_it) else {
        panic!("no {verdict} {check} with {found:?}: {findings:#?}");
    };
    assert!(has(one, "remedy", remedy), "{one:#}");
}

#[test]
fn the_machine_is_looked_at_and_the_document_has_its_fields() {
    let (status, text) = doctor(&["--json"], None);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["schema"], 1);
    assert_eq!(status, i32::from(report["verdict"] == "red"), "{report:#}");
    let findings = report["findings"].as_array().expect("findings");
    assert!(findings.len() > 10, "{report:#}");
    for finding in findings {
        let is_well = finding["verdict"] == "green";
        assert_eq!(finding["remedy"].is_null(), is_well, "{finding:#}");
        assert!(finding["area"].is_string() && finding["check"].is_string(), "{finding:#}");
    }
    let (_, page) = doctor(&[], None);
    assert!(page.starts_with("gpurun ") && page.contains("\nKernel\n"), "{page}");
    assert!(!page.contains('\x1b'), "colours without a terminal: {page}");
}

#[test]
fn a_made_up_gpu_machine_is_told_what_it_has() {
    let dir = TempDir::new().expect("directory");
    let host = match MadeUpHost::build(dir.path(), &Layout::with_gpus(2)) {
        Ok(host) => host,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let (_, page) = doctor(&[], Some(&host.config()));
    assert!(page.contains("nvidia GPUs: 2 × "), "{page}");
    let mut bundle = Bundle::new();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=7"]);
    let (status, findings) = bundle.look_on(Some(&host.config()));
    assert_eq!(status, 1);
    expect(&findings, "GPUs", "red", "no GPU \"7\"", "there is");
}

#[test]
fn each_table_of_the_configuration_is_checked() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("config.toml");
    for (text, found) in [
        ("[nvidia]\ncuda-compat-mode = 'x'\n", "line 2: nvidia.cuda-compat-mode must be"),
        ("[nvidia]\n\n[amd]\ngpu-trakcer = 'none'\n", "line 4: unknown key \"amd.gpu-trakcer\""),
        ("[gpu]\nexclusive = 1\n", "line 2: gpu.exclusive must be"),
        ("[cdi]\nspec-dirs = ['x']\n", "line 2: cdi.spec-dirs must be"),
        ("[vendors.x]\nvariable = 'X'\n", "line 2: vendors.x.variable must be"),
        ("[host]\nproc = '/nonexistent'\n", "/nonexistent"),
        ("[hots]\n", "line 1: unknown key \"hots\""),
        ("[host\n", "line 1: "),
    ] {
        std::fs::write(&path, text).expect("write");
        let (status, document) = doctor(&["--json"], Some(&path));
        let report: Value = serde_json::from_str(&document).expect("JSON");
        let findings = report["findings"].as_array().expect("findings");
        expect(findings, "configuration file", "red", found, "correct it");
        assert_eq!(status, 1, "{text}");
    }
}

#[test]
fn a_configuration_that_others_than_root_can_write_is_not_believed() {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("config.toml");
    let findings = || {
        let (_, document) = doctor(&["--json"], Some(&path));
        let report: Value = serde_json::from_str(&document).expect("JSON");
        report["findings"].as_array().expect("findings").clone()
    };
    let make = |owner: u32, mode: u32| {
        std::fs::write(&path, "[gpu]\nexclusive = true\n").expect("write");
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).expect("chown");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
    };
    for (owner, mode, fault, remedy) in [
        (1000, 0o644, "it belongs to user 1000", "chown root"),
        (0, 0o666, "everyone can write it", "chmod go-w"),
    ] {
        make(owner, mode);
        for phrase in [fault, remedy] {
            expect(&findings(), "configuration file", "red", phrase, "correct it");
        }
    }
    for mode in [0o600, 0o644, 0o664] {
        make(0, mode);
        expect(&findings(), "configuration file", "green", "config.toml", "");
    }
    std::os::unix::fs::chown(&path, None, Some(1000)).expect("chown");
    expect(&findings(), "configuration file", "red", "group 1000 can write it", "correct it");
    // Nobody writes to it.
    std::fs::remove_file(&path).expect("remove");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    expect(&findings(), "configuration file", "red", "it is no regular file", "correct it");
}

#[test]
fn a_bundle_that_would_start_is_all_green() {
    let bundle = Bundle::new();
    let (status, findings) = bundle.look();
    assert!(findings.iter().all(|one| one["verdict"] == "green"), "{findings:#?}");
    assert_eq!(status, 0);
    expect(&findings, "program", "green", "/bin/run", "");
}

#[test]
fn what_would_fail_is_named_with_its_remedy() {
    let foreign = {
        let mut elf = vec![0_u8; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        // RISC-V.
        elf[18] = 243;
        elf
    };
    type Harm = Box<dyn Fn(&mut Bundle)>;
    let set = |pointer: &'static str, value: Value| -> Harm {
        Box::new(move |bundle: &mut Bundle| {
            let (parent, key) = pointer.rsplit_once('/').expect("pointer");
            bundle.config.pointer_mut(parent).expect("parent")[key] = value.clone();
        })
    };
    let file = |name: &'static str, content: Vec<u8>, mode: u32| -> Harm {
        Box::new(move |bundle: &mut Bundle| bundle.file(name, &content, mode))
    };
    let rows: Vec<(Harm, &str, &str, &str)> = vec![
        (set("/root/path", json!("gone")), "bundle", "root.path", "unpack or mount"),
        (set("/ociVersion", json!("2.0.0")), "bundle", "not 1.x", "correct the field"),
        (set("/process/args", json!(["absent"])), "program", "absent", "process.args"),
        (set("/process/args", json!([])), "create", "args", "correct the field"),
        (file("rootfs/bin/run", b"#!/bin/sh\n".to_vec(), 0o644), "program", "permission", "chmod"),
        (
            file("rootfs/bin/run", b"#!/bin/bash -e\n".to_vec(), 0o755),
            "program",
            "its loader /bin/bash",
            "install that loader",
        ),
        (file("rootfs/bin/run", foreign, 0o755), "program", "exec format", "architecture"),
        (
            set(
                "/mounts",
                json!([{"destination": "/x", "type": "bind", "source": "/no/such/source",
                        "options": ["rbind"]}]),
            ),
            "mount",
            "source /no/such/source of /x",
            "make it",
        ),
        (
            set("/hooks", json!({"poststop": [{"path": "/no/such/hook"}]})),
            "hook",
            "poststop hook /no/such/hook",
            "install the program",
        ),
        (
            set(
                "/linux/namespaces",
                json!([{"type": "mount"},
                {"type": "network", "path": "/proc/999999999/ns/net"}]),
            ),
            "create",
            "/proc/999999999/ns/net",
            "has ended",
        ),
        (
            set(
                "/linux/namespaces",
                json!([{"type": "mount"},
                {"type": "network", "path": "/etc/passwd"}]),
            ),
            "namespace",
            "/etc/passwd is no ",
            "has ended",
        ),
        (
            set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW",
                "flags": ["SECCOMP_FILTER_FLAG_NEW"]}),
            ),
            "bundle",
            "SECCOMP_FILTER_FLAG_NEW",
            "correct the field",
        ),
        (
            Box::new(|bundle| {
                bundle.config["process"]["user"]["uid"] = json!(1000);
                bundle.config["linux"] = json!({
                    "namespaces": [{"type": "mount"}, {"type": "user"}],
                    "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 10}],
                    "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 10}],
                });
            }),
            "user",
            "process.user.uid 1000 is not in",
            "map a larger range",
        ),
        (
            set("/process/apparmorProfile", json!("no-such-profile")),
            "AppArmor",
            "no-such-profile",
            "apparmor",
        ),
        (
            set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})),
            "bundle",
            "net.ipv4.ip_forward",
            "correct the field",
        ),
        (set("/linux/cgroupsPath", json!("/../x")), "create", "`..`", "correct the field"),
        (
            set(
                "/process/env",
                json!([
                    "PATH=/bin",
                    "NVIDIA_DRIVER_CAPABILITIES=gaming",
                    "NVIDIA_VISIBLE_DEVICES=all"
                ]),
            ),
            "GPUs",
            "gaming",
            "use some of",
        ),
    ];
    for (harm, check, found, remedy) in &rows {
        Bundle::breaks(harm, check, found, remedy);
    }
    let (status, text) = doctor(&["--bundle", "/no/such/bundle"], None);
    assert_eq!(status, 1);
    assert!(text.contains("red") && text.contains("engines remove it"), "{text}");
}

#[test]
fn a_program_on_a_mount_cannot_be_seen_and_is_not_called_missing() {
    let mut bundle = Bundle::new();
    bundle.config["process"]["args"] = json!(["/data/program"]);
    bundle.config["mounts"] = json!([{"destination": "/data", "type": "tmpfs", "source": "x"}]);
    let (status, findings) = bundle.look();
    assert_eq!(status, 0);
    expect(&findings, "program", "unseen", "/data/program", "");
}
