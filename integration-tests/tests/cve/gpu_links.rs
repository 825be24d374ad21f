//! Links that a CDI file asks for, where the image has their names already. What is shown under
//! such a name comes from the spec, wherever the image's own links lead.

use integration_tests::container::text;
use integration_tests::gpu_container::GpuContainer;
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost};
use integration_tests::{
    Config, Output, Runtime, Value, cdi_file, gpurun_only, json, runtime, skipped, stub_driver,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const LIB: &str = "/usr/lib/x86_64-linux-gnu";

/// What the image's links lead to. A copy of its mount could be written to, whatever the spec's
/// `readonlyPaths` say; that would do no harm, for the name is the container's own.
const BAIT: &str = "/proc/sys/kernel/hostname";

/// How the links come to the container.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Mounts and hooks of a spec, as an engine makes them of a CDI file.
    Spec,
    /// A name in an annotation, which gpurun resolves.
    Annotation,
    /// `gpurun hook` in a container of runc's.
    Hook,
}

/// What `nvidia-ctk cdi generate` writes, in short. With `cache` also the hook by which a library's
/// SONAME becomes a link.
fn cdi(library: &Path, name: &str, program: &[&str], cache: bool) -> Value {
    let hook = |words: &[&str]| {
        let args: Vec<&str> = program.iter().skip(1).chain(words).copied().collect();
        json!({"hookName": "createContainer", "path": program[0], "args": args})
    };
    let link = format!("libcuda.so.1::{LIB}/libcuda.so");
    let mut hooks = vec![hook(&["create-symlinks", "--link", &link])];
    if cache {
        hooks.push(hook(&["update-ldcache", "--folder", LIB]));
    }
    let mount = json!({"hostPath": library, "containerPath": format!("{LIB}/{name}"),
                       "options": ["ro", "nosuid", "nodev", "bind"]});
    json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
           "devices": [{"name": "0", "containerEdits": {"env": ["DEVICE=0"]}}],
           "containerEdits": {"mounts": [mount], "hooks": hooks}})
}

/// Runs a container of an image that `change` has made hostile: what it mounts, what it can change,
/// and what its libraries are.
fn run(way: Way, cache: bool, change: impl FnOnce(&Path)) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let host = MadeUpHost::build(&directory.path().join("host"), &Layout::with_gpus(1)).unwrap();
    let name = format!("libcuda.so.{DRIVER_VERSION}");
    let library = directory.path().join("library");
    let driver = stub_driver::cached(DRIVER_VERSION).unwrap();
    fs::copy(driver.join(&LIB[1..]).join(&name), &library).unwrap();

    let script = format!(
        "cd {LIB}; for one in libcuda.so libcuda.so.1; do echo changed > $one; done 2>/dev/null; \
         echo host name $(cat {BAIT}); cat /proc/self/mountinfo; \
         for one in {name} libcuda.so.1 libcuda.so; do echo $(busybox md5sum < $one) $one; done"
    );
    let own = Runtime::binary();
    let program = match way {
        Way::Hook => vec![text(&own), "gpurun", "hook"],
        Way::Spec | Way::Annotation => vec!["/nonexistent/nvidia-cdi-hook", "nvidia-cdi-hook"],
    };
    let file = cdi(&library, &name, &program, cache);
    let config = Config::sh(&script);
    let config = match way {
        Way::Annotation => config.set("/annotations", json!({"cdi.k8s.io/x": "nvidia.com/gpu=0"})),
        Way::Spec | Way::Hook => cdi_file::apply(&file, "0", config),
    };
    let specs = directory.path().join("cdi");
    fs::create_dir(&specs).unwrap();
    fs::write(specs.join("nvidia.json"), file.to_string()).unwrap();
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("{settings}\n[cdi]\nspec-dirs = [{specs:?}]\n")).unwrap();

    let gpu = GpuContainer::new(Runtime::native(), &host, config);
    let image = gpu.container.rootfs();
    fs::create_dir_all(image.join(&LIB[1..])).unwrap();
    fs::write(image.join("etc/debian_version"), "12.0\n").unwrap();
    change(&image);
    match way {
        Way::Spec | Way::Annotation => gpu.run(),
        Way::Hook => {
            let mut command = Command::new("runc");
            command.arg("--root").arg(gpu.container.path("runc")).args(["run", "--bundle"]);
            command.arg(gpu.container.bundle()).arg(gpu.container.id());
            runtime::finish(&mut command, b"")
        }
    }
}

fn ways() -> Vec<Way> {
    let mut ways = vec![Way::Spec, Way::Annotation];
    match Command::new("runc").arg("--version").output() {
        Ok(_) => ways.push(Way::Hook),
        Err(_) => skipped("no runc in PATH (Debian: runc)"),
    }
    ways
}

/// The link's name is a file of the image, and where it leads is a link of the image: what that one
/// leads to must not be shown under the name, writable and before anything is masked.
#[test]
fn cve_2024_0132_a_link_at_the_end_of_a_cdi_link_is_never_the_source_of_a_mount() {
    gpurun_only!("the others leave this to a hook");
    for way in ways() {
        for cache in [false, true] {
            for bait in [BAIT, "/usr/../proc/self/../sys/kernel/hostname", "bait"] {
                let what = format!("{way:?}, cache {cache}, {bait}");
                let output = run(way, cache, |image| {
                    let lib = image.join(&LIB[1..]);
                    fs::write(lib.join("libcuda.so"), "image").unwrap();
                    symlink(bait, lib.join("libcuda.so.1")).unwrap();
                    symlink(BAIT, lib.join("bait")).unwrap();
                });
                let lines: Vec<&str> = output.ok().lines().collect();
                assert!(!lines.contains(&"host name changed"), "{what}: {output:?}");
                let shown = |line: &&str| line.contains("/sys/kernel/hostname");
                assert!(!lines.iter().any(shown), "{what}: {output:?}");
                let sum = |name: &str| {
                    let line = lines.iter().find(|line| line.ends_with(&format!(" {name}")));
                    line.and_then(|line| line.split(' ').next()).map(str::to_owned)
                };
                // With the library's SONAME as a link, both names lead to the library.
                if cache {
                    let library = sum(&format!("libcuda.so.{DRIVER_VERSION}"));
                    assert_eq!(sum("libcuda.so"), library, "{what}: {output:?}");
                    assert_eq!(sum("libcuda.so.1"), library, "{what}: {output:?}");
                    let readonly = |line: &&&str| line.contains(" ro,nosuid,nodev");
                    let mounts = lines.iter().filter(|line| line.contains("/libcuda.so"));
                    assert_eq!(mounts.filter(readonly).count(), 3, "{what}: {output:?}");
                }
            }
        }
    }
}
