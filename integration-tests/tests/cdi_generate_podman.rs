//! podman with a file of `gpurun cdi generate`, as root and as an ordinary user.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::ordinary_user::OrdinaryUser;
use integration_tests::podman::{IMAGE, Podman};
use integration_tests::{Output, Runtime, cdi_file, gpurun_only, runtime, skipped};

/// A podman looks for what the others of this process have left.
static ONE: Mutex<()> = Mutex::new(());

/// The file, as this program writes it.
fn generate(host: &MadeUpHost, args: &[&str]) -> Output {
    let mut command = Command::new(Runtime::binary());
    command.env("GPURUN_CONFIG", host.config()).args(["cdi", "generate"]).args(args);
    runtime::finish(&mut command, b"")
}

/// podman of this machine looks for CDI files in /etc/cdi alone: it gets an /etc of its own.
fn podman_with(podman: &Podman, etc: &Path, args: &[&str]) -> Output {
    let inner = podman.command(args);
    let mount = format!("mount -t overlay -o lowerdir={}:/etc overlay /etc", etc.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    runtime::finish(&mut command, b"")
}

#[test]
fn podman_gives_the_devices_of_the_file_with_either_runtime() {
    gpurun_only!("gpurun's own command");
    for program in ["podman", "runc"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skipped(&format!("no {program} in PATH (Debian: {program})"));
        }
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(&directory.path().join("host"), &Layout::with_gpus(2))
        .expect("a made-up machine");
    let etc = directory.path().join("etc");
    let file = etc.join("cdi/nvidia.yaml");
    generate(&host, &["--output", file.to_str().unwrap()]).ok();
    let podman = Podman::new(None, &host.config()).expect("podman import");
    let script = "readlink /usr/lib/x86_64-linux-gnu/libcuda.so; \
                  for link in /dev/dri/by-path/*; do readlink $link; done; grep -c libcuda.so.1 /etc/ld.so.cache; \
                  echo $NVIDIA_VISIBLE_DEVICES; nodes open /dev/nvidia1; nodes make 195:0; \
                  nvidia-smi";
    let own = ["run", "--rm", "--network", "none", "--device", "nvidia.com/gpu=1"];
    let run = [&own[..], &[IMAGE, "sh", "-c", script]].concat();
    for runtime in [&["--runtime", "runc"][..], &[]] {
        let output = podman_with(&podman, &etc, &[runtime, &run].concat());
        let lines: Vec<&str> = output.ok().lines().collect();
        let expected = [
            "libcuda.so.1",
            "../card2",
            "../renderD129",
            "1",
            "void",
            "/dev/nvidia1 ENXIO",
            "195:0 EPERM",
        ];
        assert_eq!(lines[..expected.len()], expected, "{runtime:?}: {output:?}");
        assert!(lines.contains(&"GPU node: /dev/nvidia1"), "{runtime:?}: {output:?}");
    }
    assert_eq!(podman.leftovers(), Vec::<String>::new());
}

#[test]
fn an_ordinary_users_podman_gives_them_as_well() {
    gpurun_only!("gpurun's own command");
    let programs = ["podman", "runc"];
    if programs.iter().any(|name| Command::new(name).arg("--version").output().is_err()) {
        return skipped("no podman or runc in PATH (Debian: podman, runc)");
    }
    if !OrdinaryUser::has_id_ranges() {
        return skipped("no newuidmap in /usr/bin (Debian: uidmap)");
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let user = OrdinaryUser::new();
    let [place, etc] = ["machine", "etc"].map(|name| user.path(name));
    fs::create_dir(&place).expect("mkdir");
    let host = MadeUpHost::build(&place, &Layout::with_gpus(2)).expect("a made-up machine");
    let hook = user.binary();
    let hook = hook.to_str().expect("UTF-8");
    let mut file = generate(&host, &["--format", "json", "--hook-path", hook]).json();
    cdi_file::without_nodes(&mut file);
    fs::create_dir_all(etc.join("cdi")).expect("mkdir");
    fs::write(etc.join("cdi/nvidia.json"), file.to_string()).expect("write");
    let config = host.config();
    let podman = match Podman::new(Some(user), &config) {
        Ok(podman) => podman,
        Err(reason) => {
            return skipped(&format!("podman does not work for an ordinary user: {reason}"));
        }
    };
    let script = "readlink /usr/lib/x86_64-linux-gnu/libcuda.so; \
                  readlink /dev/dri/by-path/pci-*-card; grep -c libcuda.so.1 /etc/ld.so.cache";
    let own = ["run", "--rm", "--network", "none", "--device", "nvidia.com/gpu=1"];
    let run = [&own[..], &[IMAGE, "sh", "-c", script]].concat();
    for runtime in [&["--runtime", "runc"][..], &[]] {
        // It keeps the mount namespace of its first call.
        podman.call(&["system", "migrate"]).ok();
        let output = podman_with(&podman, &etc, &[runtime, &run].concat());
        let lines: Vec<&str> = output.ok().lines().collect();
        assert_eq!(lines, ["libcuda.so.1", "../card2", "1"], "{runtime:?}");
    }
}
