//! NVIDIA's toolkit. CVE-2026-24260, the race at every path, is in `tests/gpu_hostile_paths.rs`.

use integration_tests::canary::Canary;
use integration_tests::container::text;
use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost};
use integration_tests::race::Racer;
use integration_tests::{Output, Runtime, gpurun_only, images, json, leak, rootfs, stub_driver};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A machine with a driver of its own, and a container of a hostile image.
struct Scene {
    gpu: GpuContainer,
    canary: Canary,
    host: MadeUpHost,
    _directory: TempDir,
}

const ENV: [&str; 3] =
    ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"];
const MOUNTS: &[&str] = &["/bin/busybox", "cat", "/proc/self/mountinfo"];

impl Scene {
    fn new(env: &[&str], program: &[&str]) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let driver = directory.path().join("driver");
        images::install(&stub_driver::cached(DRIVER_VERSION).unwrap(), &driver).unwrap();
        let mut layout = Layout::with_gpus(1);
        layout.driver_root = Some(driver);
        let host = MadeUpHost::build(&directory.path().join("host"), &layout).unwrap();
        let gpu = GpuContainer::new(Runtime::native(), &host, config(env, program));
        fs::write(gpu.container.rootfs().join("etc/debian_version"), "12.0\n").unwrap();
        let canary = Canary::new(gpu.container.path("canary"));
        Scene { gpu, canary, host, _directory: directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.gpu.container.rootfs().join(name)
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) {
        let path = self.at(name);
        rootfs::clear(&path);
        symlink(target, path).unwrap();
    }

    /// Runs it: a container that works, or a clear error; and the host as before.
    #[track_caller]
    fn run(&self) -> Output {
        let output = self.gpu.run();
        if output.code != 0 {
            output.refused(1, &["/"]);
        }
        self.assert_safe(&output);
        output
    }

    /// The host is as before, and what the container saw mounted comes from the driver's directory
    /// or is a file system of its own.
    #[track_caller]
    fn assert_safe(&self, output: &Output) {
        self.canary.assert_untouched();
        let driver = self.host.driver_root.canonicalize().unwrap();
        let rootfs = self.gpu.container.rootfs();
        for line in output.stdout.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (Some(root), Some(point), Some(options)) =
                (fields.get(3), fields.get(4), fields.get(5))
            else {
                continue;
            };
            // Of the file system that everything here is on.
            if Path::new(root).starts_with("/tmp") && *point != "/" {
                assert!(Path::new(root).starts_with(&driver), "mounted from the host: {line}");
                assert!(options.starts_with("ro,nosuid,nodev"), "{line}");
            } else {
                assert!(*root != "/" || *point == "/" || !line.contains(" ext4 "), "{line}");
            }
            assert!(*point != "/" || Path::new(root).starts_with(&rootfs), "{line}");
        }
    }
}

/// Where the image's newer libraries lead: to the host's root, by each kind of link.
fn compat_links(canary: &Canary) -> Vec<PathBuf> {
    vec![
        PathBuf::from("/../../../../../../.."),
        PathBuf::from("/proc/self/root"),
        PathBuf::from("/proc/1/root"),
        canary.upwards(""),
        canary.path("victim"),
    ]
}

/// A link in the image's directory of newer libraries makes the source of a mount a path of the
/// host.
#[test]
fn cve_2024_0132_newer_libraries_of_the_image_are_never_mounted_from_anywhere() {
    gpurun_only!("the others have no GPUs to give");
    for place in ["usr/local/cuda/compat/libcuda.so.1", "usr/local/cuda/compat", "usr/local/cuda"] {
        let scene = Scene::new(&ENV, MOUNTS);
        for target in compat_links(&scene.canary) {
            scene.link(place, target);
            if place.ends_with("libcuda.so.1") {
                // One of a version to come beside it, so that the directory is worth looking at.
                fs::write(scene.at("usr/local/cuda/compat/libcuda.so.999.99"), "no ELF").unwrap();
            }
            let output = scene.run();
            assert_eq!(output.code, 0, "{output:?}");
            assert!(!output.stdout.contains("compat"), "{output:?}");
        }
    }
}

/// The way around the first fix: the directory is exchanged after the check.
#[test]
fn cve_2025_23359_newer_libraries_exchanged_for_a_link_bring_nothing_of_the_host() {
    gpurun_only!("the others have no GPUs to give");
    let scene = Scene::new(&ENV, MOUNTS);
    let compat = scene.at("usr/local/cuda/compat");
    fs::create_dir_all(&compat).unwrap();
    fs::write(compat.join("libcuda.so.999.99"), "no ELF").unwrap();
    symlink(scene.canary.upwards(""), scene.at("usr/local/cuda/link")).unwrap();
    symlink(scene.canary.upwards("victim"), compat.join("link")).unwrap();
    // The inner pair first: it is behind the link half of the time.
    let inner = (compat.join("libcuda.so.999.99"), compat.join("link"));
    let racer = Racer::start(vec![inner, (compat, scene.at("usr/local/cuda/link"))]);
    let end = Instant::now() + Duration::from_secs(8);
    let mut starts = 0;
    while Instant::now() < end {
        assert_eq!(scene.run().code, 0);
        starts += 1;
    }
    assert!(starts > 3 && racer.exchanges() > 1000, "{starts} starts");
}

/// Directories for libraries that lead out: empty files are created on the host.
#[test]
fn cve_2024_0133_no_mount_point_is_created_on_the_host() {
    gpurun_only!("the others have no GPUs to give");
    for place in [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib",
        "usr",
        "usr/bin",
        "usr/share",
        "lib/firmware",
        "run",
    ] {
        for upwards in [false, true] {
            let scene = Scene::new(&ENV, MOUNTS);
            let target =
                if upwards { scene.canary.upwards("empty") } else { scene.canary.path("empty") };
            scene.link(place, target);
            scene.run();
            assert_eq!(fs::read_dir(scene.canary.path("empty")).unwrap().count(), 0);
        }
    }
}

/// Links that the driver needs are created through a link of the image.
#[test]
fn cve_2024_0134_no_link_is_created_on_the_host() {
    gpurun_only!("the others have no GPUs to give");
    for place in [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu/gbm",
        "usr/lib/x86_64-linux-gnu/vdpau",
    ] {
        let scene = Scene::new(&ENV, MOUNTS);
        scene.link(place, scene.canary.upwards(""));
        scene.run();
    }
    // The links' own names.
    for name in ["libcuda.so", "libcuda.so.1", "libnvidia-ml.so.1"] {
        let scene = Scene::new(&ENV, MOUNTS);
        scene.link(&format!("usr/lib/x86_64-linux-gnu/{name}"), scene.canary.upwards("victim"));
        assert_eq!(scene.run().code, 0);
    }
}

/// The three of one release: a program of the host changed from inside, a program of the image run
/// in its place, and the network namespace of the host.
#[test]
fn cve_2024_0135_the_drivers_files_cannot_be_changed_and_nothing_of_the_image_is_run() {
    gpurun_only!("the others have no GPUs to give");
    let script = "for f in /usr/bin/nvidia-smi /usr/lib/x86_64-linux-gnu/libcuda.so.*; do \
                    echo x >> $f && echo wrote $f; rm -f $f && echo removed $f; chmod 777 $f && echo mode $f; \
                    mount -o remount,rw $f && echo remounted; done 2>/dev/null; \
                  readlink /proc/self/ns/net; cat /proc/self/mountinfo";
    let scene = Scene::new(&ENV, &["sh", "-c", script]);
    // What a toolkit would run in the image.
    for program in ["sbin/ldconfig", "sbin/ldconfig.real", "usr/bin/nvidia-ctk", "bin/ldconfig"] {
        let path = scene.at(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let canary = text(&scene.canary.path("victim")).to_owned();
        fs::write(&path, format!("#!/bin/sh\necho run > /tmp/was-run; echo run > {canary}\n"))
            .unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let driver = leak::listing(&scene.host.driver_root);
    let output = scene.run();
    let said = output.ok();
    assert!(
        !said.contains("wrote") && !said.contains("mode ") && !said.contains("remounted"),
        "{said}"
    );
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!said.contains(text(&own)), "{said}");
    assert!(!scene.at("tmp/was-run").exists());
    leak::assert_same(&driver, &leak::listing(&scene.host.driver_root));
}

/// "NVIDIAScape": a hook inherits the image's LD_PRELOAD, in a directory of the image.
#[test]
fn cve_2025_23266_no_hook_has_the_environment_of_the_image() {
    gpurun_only!("the others have no GPUs to give");
    let env = [
        "PATH=/proc/self/cwd/bin:./bin:/bin",
        "NVIDIA_VISIBLE_DEVICES=all",
        "LD_PRELOAD=/proc/self/cwd/evil.so",
        "LD_AUDIT=./evil.so",
        "LD_LIBRARY_PATH=.:/proc/self/cwd",
        "GCONV_PATH=.",
        "NODE_OPTIONS=--require ./evil.js",
        "BASH_ENV=./evil.sh",
        "ENV=./evil.sh",
    ];
    let scene = Scene::new(&env, &["/bin/busybox", "true"]);
    let victim = scene.canary.path("empty/loaded");
    let source = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void go(void) {{ FILE *f = \
         fopen(\"{}\", \"w\"); if (f) fclose(f); }}\n",
        victim.display()
    );
    stub_driver::compile(&source, &scene.at("evil.so"), &["-shared", "-fPIC"]).unwrap();
    fs::write(scene.at("evil.sh"), format!("touch {}", victim.display())).unwrap();
    let listing = scene.gpu.container.path("environments");
    // A dynamic program of the host, as NVIDIA's hook is.
    let hook = |env: &[&str]| {
        json!({"path": "/usr/bin/env", "args": ["env", "sh", "-c", format!("env >> {}", listing.display())],
               "env": env})
    };
    let mut document = config(&env, &["/bin/busybox", "true"]);
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        document = document.hook(kind, hook(&["PATH=/usr/bin:/bin", "OWN=1"]));
    }
    scene.gpu.container.configure(document);
    scene.gpu.run().ok();
    scene.canary.assert_untouched();
    let seen = fs::read_to_string(&listing).unwrap();
    assert_eq!(seen.matches("OWN=1").count(), 5, "{seen}");
    for name in ["LD_", "GCONV", "NODE_OPTIONS", "BASH_ENV", "NVIDIA_", "HOME="] {
        assert!(!seen.contains(name), "{name} in {seen}");
    }
    // The attack works where the variable arrives: the same library, loaded by hand.
    let status =
        std::process::Command::new("/usr/bin/env").env("LD_PRELOAD", scene.at("evil.so")).output();
    assert!(status.unwrap().status.success() && victim.exists(), "the library does nothing");
}

/// The update of the loader's cache follows links of the image.
#[test]
fn cve_2025_23267_the_loaders_cache_is_written_into_the_image_only() {
    gpurun_only!("the others have no GPUs to give");
    for (place, target) in [
        ("etc/ld.so.cache", "ld.so.cache"),
        ("etc/ld.so.cache", "empty/new"),
        ("etc/ld.so.cache~", "victim"),
        ("etc/.gpurun-ld.so.cache", "victim"),
        ("etc/ld.so.conf", "ld.so.conf"),
        ("etc/ld.so.conf.d", "empty"),
        ("etc/ld.so.conf.d/00-gpurun.conf", "00-gpurun.conf"),
        ("etc", ""),
        ("etc", "empty"),
        ("var/cache/ldconfig", "empty"),
    ] {
        for upwards in [false, true] {
            let scene = Scene::new(&ENV, MOUNTS);
            let target =
                if upwards { scene.canary.upwards(target) } else { scene.canary.path(target) };
            scene.link(place, target);
            assert_eq!(scene.run().code, 0, "{place}");
        }
    }
    // Files that are to keep whoever reads them busy, or to break them.
    let scene = Scene::new(&ENV, MOUNTS);
    let cache = scene.at("etc/ld.so.cache");
    for bytes in [
        b"glibc-ld.so.cache1.1\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"ld.so-1.7.0\0\xff\xff\xff\x7f".to_vec(),
        vec![0xff; 4096],
        vec![b'/'; 100_000],
    ] {
        fs::write(&cache, &bytes).unwrap();
        assert_eq!(scene.run().code, 0);
        assert!(fs::read(&cache).unwrap() == bytes, "put back byte by byte");
    }
}
