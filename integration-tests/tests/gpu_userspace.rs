//! The driver's files as programs in the container see them: found by the loader, in images that
//! keep libraries in different places, and gone with the container.
//!
//! The driver is NVIDIA's own where Debian's packages can be had, stubs where the test is about
//! the image.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost};
use integration_tests::nvidia_packages::{self, Packages};
use integration_tests::{Runtime, gpurun_only, images, json, skipped};
use tempfile::TempDir;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SYMBOLS: &str = "symbols libcuda.so.1=cuInit libnvidia-ml.so.1=nvmlInit_v2";

/// A machine with one GPU, in a temporary directory.
struct Machine {
    host: MadeUpHost,
    _directory: TempDir,
}

fn machine(driver: Option<&Packages>) -> Machine {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut layout = Layout::with_gpus(1);
    if let Some(packages) = driver {
        layout.module_version = packages.version.clone();
        layout.driver_root = Some(packages.root.clone());
    }
    let host = MadeUpHost::build(directory.path(), &layout).expect("build a made-up machine");
    Machine { host, _directory: directory }
}

/// A container of this image that asks for all GPUs and runs a shell script.
fn container(machine: &Machine, image: &Path, capabilities: &str, script: &str) -> GpuContainer {
    let capabilities = format!("NVIDIA_DRIVER_CAPABILITIES={capabilities}");
    let env = [PATH, "NVIDIA_VISIBLE_DEVICES=all", &capabilities];
    let config = config(&env, &["sh", "-c", script]);
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, config);
    images::install(image, &gpu.container.rootfs()).expect("copy the image");
    gpu
}

/// The value, or a line that says why the test cannot run.
fn or_skip<T>(what: &str, result: io::Result<T>) -> Option<T> {
    result.inspect_err(|error| skipped(&format!("no {what}: {error}"))).ok()
}

/// The names that `ldconfig -p` lists.
fn listed(output: &str) -> BTreeSet<String> {
    let entries = output.lines().filter(|line| line.contains(" => "));
    entries.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_images_work_without_a_gpu() {
    let machine = machine(None);
    let mut all = small_images();
    all.extend(or_skip("Debian image", images::debian()).map(|image| ("Debian", image, true)));
    for (name, image, ldconfig) in all {
        let gpu = container(&machine, &image, "all", "true");
        let script = if ldconfig { "ldconfig -p" } else { "true" };
        let script = format!("{script} && symbols libc.so.6=malloc");
        gpu.container.configure(config(&[PATH], &["sh", "-c", &script]));
        let output = gpu.run();
        assert!(output.ok().contains("libc.so.6 malloc /"), "{name}: {output:?}");
    }
}

#[test]
fn the_packages_are_a_driver_root() {
    let Some(packages) = or_skip("NVIDIA packages", nvidia_packages::driver_root()) else {
        return;
    };
    let name = format!("libcuda.so.{}", packages.version);
    let library = packages.root.join(nvidia_packages::libraries()).join(name);
    assert!(fs::metadata(&library).expect("libcuda").len() > 1 << 20, "{}", library.display());
    assert!(packages.root.join("usr/lib/nvidia/current/nvidia-smi").exists());
}

#[test]
fn nvidias_own_libraries_are_found_in_debian() {
    gpurun_only!("other runtimes know no GPU requests");
    let Some(packages) = or_skip("NVIDIA packages", nvidia_packages::driver_root()) else {
        return;
    };
    let Some(image) = or_skip("Debian image", images::debian()) else {
        return;
    };
    let machine = machine(Some(&packages));
    let usual = [
        "libcuda.so.1",
        "libnvidia-cfg.so.1",
        "libnvidia-ml.so.1",
        "libnvidia-nvvm.so.4",
        "libnvidia-ptxjitcompiler.so.1",
    ];
    let others =
        ["libEGL_nvidia.so.0", "libGLX_nvidia.so.0", "libnvcuvid.so.1", "libnvidia-encode.so.1"];

    let script = format!("ldconfig -p; {SYMBOLS}");
    let output = container(&machine, &image, "compute,utility", &script).run();
    let names = listed(output.ok());
    for name in usual {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    for name in others {
        assert!(!names.contains(name), "{name} in {names:?}");
    }
    assert!(names.contains("libc.so.6"), "the image's own libraries are still listed: {names:?}");
    assert!(output.stdout.contains("libcuda.so.1 cuInit /"), "{output:?}");
    assert!(output.stdout.contains("libnvidia-ml.so.1 nvmlInit_v2 /"), "{output:?}");

    let script = format!("ldconfig -p; {SYMBOLS} libnvcuvid.so.1=cuvidCreateDecoder");
    let output = container(&machine, &image, "all", &script).run();
    let names = listed(output.ok());
    for name in usual.iter().chain(&others) {
        assert!(names.contains(*name), "{name} in {names:?}");
    }
}

#[test]
fn nvidia_smi_starts_and_misses_only_the_driver() {
    gpurun_only!("other runtimes know no GPU requests");
    let Some(packages) = or_skip("NVIDIA packages", nvidia_packages::driver_root()) else {
        return;
    };
    let Some(image) = or_skip("Debian image", images::debian()) else {
        return;
    };
    let machine = machine(Some(&packages));
    let output = container(&machine, &image, "utility", "nvidia-smi").run();
    let said = output.stdout + &output.stderr;
    assert!(said.contains("NVIDIA-SMI has failed because it couldn't communicate"), "{said}");
}

#[test]
fn ldconfig_and_package_installation_in_the_container_keep_the_libraries() {
    gpurun_only!("other runtimes know no GPU requests");
    let Some(image) = or_skip("Debian image", images::debian()) else {
        return;
    };
    let machine = machine(None);
    let script = format!(
        "set -e; ldconfig; ldconfig -p | grep -c 'libcuda.so.1 '; {SYMBOLS}; \
         dpkg -i /root/extra.deb >/dev/null; ldconfig -p | grep -c libextra.so.1; \
         ldconfig -p | grep -c 'libcuda.so.1 '; {SYMBOLS}"
    );
    let gpu = container(&machine, &image, "compute,utility", &script);
    if or_skip("package", extra_package(&gpu.container.rootfs().join("root/extra.deb"))).is_none() {
        return;
    }
    let output = gpu.run();
    let counts: Vec<&str> = output.ok().lines().filter(|line| line.len() == 1).collect();
    assert_eq!(counts, ["1", "1", "1"], "{output:?}");
}

/// A package with one library, whose installation runs ldconfig by dpkg's trigger.
fn extra_package(target: &Path) -> io::Result<()> {
    let tree = tempfile::tempdir()?;
    let library = tree.path().join("usr/lib/libextra.so.1");
    fs::create_dir_all(tree.path().join("usr/lib"))?;
    fs::create_dir_all(tree.path().join("DEBIAN"))?;
    let flags = ["-shared", "-nostdlib", "-Wl,-soname,libextra.so.1"];
    integration_tests::stub_driver::compile("int extra(void) { return 0; }", &library, &flags)?;
    let control = "Package: libextra1\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: a library\n";
    fs::write(tree.path().join("DEBIAN/control"), control)?;
    fs::write(tree.path().join("DEBIAN/triggers"), "activate-noawait ldconfig\n")?;
    nvidia_packages::run(Command::new("dpkg-deb").arg("--build").arg(tree.path()).arg(target))
}

/// The small images, with whether they have ldconfig. One that cannot be made is left out.
fn small_images() -> Vec<(&'static str, PathBuf, bool)> {
    let images = [
        ("without ldconfig", images::without_ldconfig(), false),
        ("like Fedora", images::fedora_like(), true),
        ("like Alpine", images::alpine_like(), false),
    ];
    images
        .into_iter()
        .filter_map(|(name, image, ldconfig)| Some((name, or_skip(name, image)?, ldconfig)))
        .collect()
}

#[test]
fn the_loader_finds_the_driver_in_every_kind_of_image() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine(None);
    for (name, image, ldconfig) in small_images() {
        let output = container(&machine, &image, "compute,utility", SYMBOLS).run();
        assert!(output.ok().contains("libcuda.so.1 cuInit /"), "{name}: {output:?}");
        if ldconfig {
            let script = format!("ldconfig -p; ldconfig && {SYMBOLS} >&2 && ldconfig -p");
            let output = container(&machine, &image, "compute,utility", &script).run();
            let names = listed(output.ok());
            assert!(
                names.contains("libcuda.so.1") && names.contains("libc.so.6"),
                "{name}: {output:?}"
            );
        }
    }
}

#[test]
fn the_loader_finds_the_driver_on_a_read_only_root() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine(None);
    let mut all = small_images();
    all.extend(or_skip("Debian image", images::debian()).map(|image| ("Debian", image, true)));
    for (name, image, _) in all {
        let gpu = container(&machine, &image, "compute,utility", "true");
        let env = [PATH, "NVIDIA_VISIBLE_DEVICES=all"];
        let script = format!("{SYMBOLS}; touch /file 2>/dev/null && echo writable");
        gpu.container
            .configure(config(&env, &["sh", "-c", &script]).set("/root/readonly", json!(true)));
        let output = gpu.run();
        assert!(output.stdout.contains("nvmlInit_v2 /"), "{name}: {output:?}");
        assert!(!output.stdout.contains("writable"), "{name}: {output:?}");
    }
}

#[test]
fn nvidias_own_libraries_load_where_ldconfig_never_ran() {
    gpurun_only!("other runtimes know no GPU requests");
    let Some(packages) = or_skip("NVIDIA packages", nvidia_packages::driver_root()) else {
        return;
    };
    let machine = machine(Some(&packages));
    for image in [images::without_ldconfig(), images::fedora_like()] {
        let image = image.expect("make the image");
        let output = container(&machine, &image, "compute,utility", SYMBOLS).run();
        assert!(output.ok().contains("libcuda.so.1 cuInit /"), "{output:?}");
    }
}

#[test]
fn libraries_that_the_image_ships_itself_give_way_to_the_drivers() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine(None);
    let image = images::without_ldconfig().expect("make the image");
    let gpu = container(&machine, &image, "compute,utility", SYMBOLS);
    let libraries =
        gpu.container.rootfs().join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    // What images built under NVIDIA's legacy runtime have: empty files and files of another
    // version, under the very names that the driver needs.
    fs::write(libraries.join(format!("libcuda.so.{DRIVER_VERSION}")), "").expect("write");
    fs::write(libraries.join("libcuda.so.1"), "not a library\n").expect("write");
    symlink("libnvidia-ml.so.418.40", libraries.join("libnvidia-ml.so.1")).expect("symlink");
    fs::write(libraries.join("libnvidia-ml.so.418.40"), "").expect("write");
    symlink("/nowhere", libraries.join("libcuda.so")).expect("symlink");
    let listing = || images::listing(&gpu.container.rootfs(), &[]).expect("list");
    let before = listing();
    for start in 1..=2 {
        let output = gpu.run();
        assert!(output.ok().contains("libcuda.so.1 cuInit /"), "start {start}: {output:?}");
        assert!(output.stdout.contains("libnvidia-ml.so.1 nvmlInit_v2 /"), "{output:?}");
        gpu.container.delete(&["--force"]).ok();
        // They are covered while the container lives, not changed.
        assert_eq!(listing(), before, "after start {start}");
    }
    let stub = fs::read_to_string(libraries.join("libcuda.so.1")).expect("the image's file");
    assert_eq!(stub, "not a library\n");
}

#[test]
fn the_image_is_as_before_when_the_container_is_gone() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine(None);
    let mut all = small_images();
    all.extend(or_skip("Debian image", images::debian()).map(|image| ("Debian", image, true)));
    for (name, image, _) in all {
        let gpu = container(&machine, &image, "all", SYMBOLS);
        let listing = || images::listing(&gpu.container.rootfs(), &[]).expect("list");
        let cache = || fs::read(gpu.container.rootfs().join("etc/ld.so.cache")).ok();
        let before: BTreeSet<String> = listing().into_iter().collect();
        let cache_before = cache();
        for round in 1..=2 {
            gpu.run().ok();
            gpu.container.delete(&["--force"]).ok();
            let after: BTreeSet<String> = listing().into_iter().collect();
            let changed: Vec<&String> = before.symmetric_difference(&after).collect();
            assert!(changed.is_empty(), "{name}, after start {round}: {changed:#?}");
            assert!(cache() == cache_before, "{name}, after start {round}: the loader's cache");
        }
    }
}

#[test]
fn starting_again_does_not_grow_the_loaders_files() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine(None);
    for (name, image, _) in small_images() {
        let gpu = container(&machine, &image, "compute,utility", SYMBOLS);
        let sizes = || {
            let etc = gpu.container.rootfs().join("etc");
            let entries = fs::read_dir(etc).expect("read /etc").flatten();
            let mut sizes: Vec<(String, u64)> = entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("ld"))
                .map(|e| {
                    (
                        e.file_name().to_string_lossy().into_owned(),
                        e.metadata().map_or(0, |m| m.len()),
                    )
                })
                .collect();
            sizes.sort();
            sizes
        };
        gpu.run().ok();
        gpu.container.delete(&["--force"]).ok();
        let once = sizes();
        for _ in 0..2 {
            gpu.run().ok();
            gpu.container.delete(&["--force"]).ok();
        }
        assert_eq!(sizes(), once, "{name}");
    }
}

#[test]
fn links_in_the_image_do_not_lead_to_the_machine() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine(None);
    let image = images::without_ldconfig().expect("make the image");
    let arch = std::env::consts::ARCH;
    let places = [
        "etc/ld.so.cache".to_owned(),
        "etc/ld.so.conf.d".to_owned(),
        "usr/bin".to_owned(),
        "usr/lib/firmware".to_owned(),
        format!("usr/lib/{arch}-linux-gnu/libcuda.so.1"),
        format!("usr/lib/{arch}-linux-gnu/libcuda.so.{DRIVER_VERSION}"),
    ];
    for place in &places {
        for target in ["file", "directory", "absent"] {
            let canary = tempfile::tempdir().expect("temporary directory");
            fs::write(canary.path().join("file"), "canary\n").expect("write");
            fs::create_dir(canary.path().join("directory")).expect("mkdir");
            let gpu = container(&machine, &image, "all", "true");
            let link = gpu.container.rootfs().join(place);
            if link.is_dir() {
                fs::remove_dir_all(&link).expect("remove");
            }
            fs::create_dir_all(link.parent().expect("a parent")).expect("mkdir");
            symlink(canary.path().join(target), &link).expect("symlink");
            let before = integration_tests::leak::listing(canary.path());
            let output = gpu.run();
            assert!(!output.stderr.contains("panicked"), "{place} -> {target}: {output:?}");
            gpu.container.delete(&["--force"]).ok();
            let after = integration_tests::leak::listing(canary.path());
            assert_eq!(before, after, "{place} -> {target}");
        }
    }
}
