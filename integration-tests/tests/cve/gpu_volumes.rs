//! What the hooks of a CDI file read in a volume or an image, where it is not what it seems: of all
//! the files called like libraries only regular ones are opened, and none outside.

use integration_tests::container::text;
use integration_tests::gpu_host::DRIVER_VERSION;
use integration_tests::race::Racer;
use integration_tests::tripwire::Tripwire;
use integration_tests::{Config, Container, Value, gpurun_only, json, stub_driver};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LIB: &str = "/usr/lib/x86_64-linux-gnu";

fn hook(words: &[&str]) -> Value {
    let args: Vec<&str> = ["nvidia-cdi-hook"].iter().chain(words).copied().collect();
    json!({"path": "/nonexistent/nvidia-cdi-hook", "args": args})
}

/// A library of the driver, as a pod may have one too.
fn library() -> PathBuf {
    let driver = stub_driver::cached(DRIVER_VERSION).unwrap();
    driver.join(&LIB[1..]).join(format!("libcuda.so.{DRIVER_VERSION}"))
}

/// A container whose libraries are in the volume `volume` of its directory, and are to be found.
fn with_volume() -> Container {
    let container = Container::native(Config::args(&["true"]));
    fs::create_dir(container.path("volume")).unwrap();
    let config = Config::sh("cat /etc/ld.so.cache 2>/dev/null; true")
        .mount(LIB, "bind", text(&container.path("volume")), &["rbind", "rw"])
        .hook("createContainer", hook(&["update-ldcache", "--folder", LIB]));
    container.configure(config);
    fs::write(container.rootfs().join("etc/debian_version"), "12.0\n").unwrap();
    container
}

/// Runs the container again and again while `one` and `other` are exchanged.
#[track_caller]
fn raced(container: &Container, one: PathBuf, other: PathBuf, tripwire: &Tripwire) {
    let racer = Racer::start(vec![(one, other)]);
    let end = Instant::now() + Duration::from_secs(6);
    let mut runs = 0;
    while Instant::now() < end {
        let output = container.run();
        assert!(!tripwire.was_opened(), "the FIFO was opened in run {runs}");
        output.ok();
        runs += 1;
    }
    assert!(runs > 3 && racer.exchanges() > 1000, "{runs} runs");
}

/// An init container fills an emptyDir, and the next container's hook reads it as root of the host.
#[test]
fn cve_2025_23267_a_volume_of_libraries_leads_to_no_file_of_the_host() {
    gpurun_only!("the others leave this to a hook");
    let container = with_volume();
    let volume = container.path("volume");
    let outside = container.path("outside");
    fs::create_dir(&outside).unwrap();
    let host = Tripwire::new(&outside.join("libhost.so"), &container.path("waiting"));
    let own = Tripwire::new(&volume.join("libfifo.so"), &container.path("waiting-too"));
    fs::copy(library(), outside.join("libforeign.so.1")).unwrap();
    fs::copy(library(), volume.join("libmine.so.1.2")).unwrap();
    symlink("libmine.so.1.2", volume.join("libmine.so.1")).unwrap();
    symlink(outside.join("libhost.so"), volume.join("libabsolute.so")).unwrap();
    symlink("../outside/libhost.so", volume.join("librelative.so")).unwrap();
    symlink("../outside/libforeign.so.1", volume.join("libforeign.so.1")).unwrap();
    symlink("/proc/self/fd/0", volume.join("libmagic.so")).unwrap();
    symlink("libloop.so", volume.join("libloop.so")).unwrap();
    let output = container.run();
    assert!(!host.was_opened() && !own.was_opened(), "{output:?}");
    let cache = output.ok();
    // The volume's own libraries are found, the host's are not.
    assert!(cache.contains("libmine.so.1.2") && cache.contains("libmine.so.1\0"), "{cache:?}");
    assert!(!cache.contains("libforeign"), "{cache:?}");
}

/// A library becomes a FIFO between one look and the next.
#[test]
fn cve_2025_23267_a_library_of_a_volume_exchanged_for_a_fifo_is_not_opened() {
    gpurun_only!("the others leave this to a hook");
    let container = with_volume();
    let volume = container.path("volume");
    let tripwire = Tripwire::new(&volume.join("fifo"), &container.path("waiting"));
    fs::copy(library(), volume.join("libx.so")).unwrap();
    raced(&container, volume.join("libx.so"), volume.join("fifo"), &tripwire);
}

/// The same among the image's newer libraries.
#[test]
fn cve_2025_23267_a_newer_library_of_the_image_exchanged_for_a_fifo_is_not_opened() {
    gpurun_only!("the others leave this to a hook");
    let hook = hook(&["enable-cuda-compat", "--host-driver-version=400.1"]);
    let container = Container::native(Config::args(&["true"]).hook("createContainer", hook));
    let compat = container.rootfs().join("usr/local/cuda/compat");
    fs::create_dir_all(&compat).unwrap();
    let newer = compat.join("libcuda.so.999.99");
    let tripwire = Tripwire::new(&compat.join("fifo"), &container.path("waiting"));
    fs::copy(library(), &newer).unwrap();
    raced(&container, newer, compat.join("fifo"), &tripwire);
}
