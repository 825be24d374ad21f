//! Every path that a GPU request touches in an image, as every kind of thing that a hostile image
//! can put there.
//!
//! Each cell of path × shape is a container of its own. Whatever the image did, there is a working
//! container or a clear error, soon; nothing of the host is touched or shown; and after `delete`
//! the image is as it was.
//!
//! `GPURUN_CELLS=all` tries every cell; without it each run tries one half or the other.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::canary::Canary;
use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost, Mig};
use integration_tests::race::Racer;
use integration_tests::{
    Config, Output, Runtime, gpurun_only, images, rootfs, skipped, stub_driver,
};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;

/// No call may take longer.
const LIMIT: Duration = Duration::from_secs(10);

/// A machine whose driver has something for every place: sockets, X11, EGL, firmware, MIG, IMEX.
struct Machine {
    host: MadeUpHost,
    _sockets: Vec<UnixListener>,
    _directory: TempDir,
}

fn machine() -> Machine {
    let directory = tempfile::tempdir().expect("temporary directory");
    let driver = directory.path().join("driver");
    let stubs = stub_driver::cached(DRIVER_VERSION).expect("stub driver");
    images::install(&stubs, &driver).expect("copy the driver");
    thin_out(&driver);
    for file in [
        "usr/share/X11/xorg.conf.d/10-nvidia.conf",
        "usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
        "usr/share/nvidia/nvoptix.bin",
    ] {
        fs::create_dir_all(driver.join(file).parent().expect("parent")).expect("mkdir");
        fs::write(driver.join(file), "stub\n").expect("write");
    }
    let sockets = ["nvidia-persistenced", "nvidia-fabricmanager"].map(|daemon| {
        let run = driver.join("run").join(daemon);
        fs::create_dir_all(&run).expect("mkdir");
        UnixListener::bind(run.join("socket")).expect("socket")
    });
    let mut layout = Layout::with_gpus(2);
    layout.driver_root = Some(driver);
    layout.imex_channels = vec![0];
    layout.mig = vec![Mig { gpu_minor: 0, gi: 1, ci: 0 }];
    let host = MadeUpHost::build(&directory.path().join("host"), &layout).expect("machine");
    Machine { host, _sockets: sockets.into(), _directory: directory }
}

/// One library of each kind is as good as all, and a thousand containers start much sooner.
fn thin_out(driver: &Path) {
    let kept = ["libcuda.so", "libnvidia-ml", "libnvidia-allocator", "libEGL_nvidia", "nvidia-smi"];
    for directory in ["usr/lib/x86_64-linux-gnu", "usr/lib/i386-linux-gnu", "usr/bin"] {
        for entry in fs::read_dir(driver.join(directory)).expect("read").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.path().is_dir() && !kept.iter().any(|kept| name.starts_with(kept)) {
                fs::remove_file(entry.path()).expect("remove");
            }
        }
    }
}

/// A place in the image, and what has to be different for it to matter.
#[derive(Clone, Copy)]
struct Place {
    path: &'static str,
    /// Without a tmpfs on /dev, so that the image's own is used.
    own_dev: bool,
    /// Without a proc mount.
    own_proc: bool,
    /// An image with musl's loader.
    musl: bool,
}

const fn at(path: &'static str) -> Place {
    Place { path, own_dev: false, own_proc: false, musl: false }
}

const fn dev(path: &'static str) -> Place {
    Place { own_dev: true, ..at(path) }
}

const LIBRARIES: &[Place] = &[
    at("usr/lib"),
    at("usr/lib/x86_64-linux-gnu"),
    at("usr/lib/x86_64-linux-gnu/libcuda.so.535.261.03"),
    at("usr/lib/x86_64-linux-gnu/libcuda.so.1"),
    at("usr/lib/x86_64-linux-gnu/libcuda.so"),
    at("usr/lib/x86_64-linux-gnu/vdpau"),
    at("usr/lib/x86_64-linux-gnu/gbm"),
    at("usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so"),
    at("usr/lib/i386-linux-gnu"),
    at("usr/lib64"),
    at("lib"),
    at("lib/firmware"),
    at("lib/firmware/nvidia/535.261.03"),
    at("lib/firmware/nvidia/535.261.03/gsp_ga10x.bin"),
];

const LOADER: &[Place] = &[
    at("etc"),
    at("etc/ld.so.cache"),
    at("etc/.gpurun-ld.so.cache"),
    at("etc/ld.so.conf"),
    at("etc/ld.so.conf.d"),
    at("etc/ld.so.conf.d/00-gpurun.conf"),
    at("etc/debian_version"),
    Place { musl: true, ..at("etc/ld-musl-x86_64.path") },
    Place { musl: true, ..at("lib/ld-musl-x86_64.so.1") },
    at("usr/local/cuda"),
    at("usr/local/cuda/compat"),
    at("usr/local/cuda/compat/libcuda.so.999.0"),
];

const DEVICES: &[Place] = &[
    dev("dev"),
    dev("dev/nvidia0"),
    dev("dev/nvidiactl"),
    dev("dev/dri"),
    dev("dev/dri/card1"),
    dev("dev/dri/by-path"),
    dev("dev/nvidia-caps"),
    dev("dev/nvidia-caps/nvidia-cap1"),
    dev("dev/nvidia-caps-imex-channels"),
    Place { own_proc: true, ..at("proc") },
    Place { own_proc: true, ..at("proc/driver") },
    Place { own_proc: true, ..at("proc/driver/nvidia") },
    Place { own_proc: true, ..at("proc/driver/nvidia/params") },
];

const DATA: &[Place] = &[
    at("etc/vulkan"),
    at("etc/vulkan/icd.d/nvidia_icd.json"),
    at("etc/OpenCL/vendors"),
    at("etc/nvidia"),
    at("etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"),
    at("usr/share"),
    at("usr/share/glvnd/egl_vendor.d"),
    at("usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json"),
    at("usr/share/X11/xorg.conf.d"),
    at("usr/share/nvidia/nvoptix.bin"),
    at("usr/bin"),
    at("usr/bin/nvidia-smi"),
    at("run"),
    at("run/nvidia-persistenced"),
    at("run/nvidia-persistenced/socket"),
];

/// What is put there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    LinkToDirectory,
    LinkUpwards,
    LinkThroughProcRoot,
    LinkThroughProcessOne,
    LinkThroughDescriptor,
    LinkToCwd,
    LinkToFile,
    LinkToNothing,
    LinkLoop,
    Fifo,
    Socket,
    EndlessDevice,
    GpuDevice,
    Giant,
    SmallFile,
    EmptyDirectory,
    FullDirectory,
    NoParents,
    HardLink,
    Immutable,
    ReadOnlyMount,
    TmpfsMount,
}

const SHAPES: &[Shape] = &[
    Shape::LinkToDirectory,
    Shape::LinkUpwards,
    Shape::LinkThroughProcRoot,
    Shape::LinkThroughProcessOne,
    Shape::LinkThroughDescriptor,
    Shape::LinkToCwd,
    Shape::LinkToFile,
    Shape::LinkToNothing,
    Shape::LinkLoop,
    Shape::Fifo,
    Shape::Socket,
    Shape::EndlessDevice,
    Shape::GpuDevice,
    Shape::Giant,
    Shape::SmallFile,
    Shape::EmptyDirectory,
    Shape::FullDirectory,
    Shape::NoParents,
    Shape::HardLink,
    Shape::Immutable,
    Shape::ReadOnlyMount,
    Shape::TmpfsMount,
];

/// A container for one place, whose image is made anew for every shape.
struct Subject {
    gpu: GpuContainer,
    canary: Canary,
    place: Place,
}

impl Subject {
    fn new(machine: &Machine, place: Place) -> Subject {
        let gpu = GpuContainer::new(Runtime::native(), &machine.host, Config::idle());
        let canary = Canary::new(gpu.container.path("canary"));
        fs::create_dir(gpu.container.bundle().join("nothing")).unwrap();
        Subject { gpu, canary, place }
    }

    /// Makes the image with the shape in its place. `None`: this machine cannot make it.
    fn cell(&self, shape: Shape) -> Option<Cell<'_>> {
        let env = [
            "NVIDIA_VISIBLE_DEVICES=all",
            "NVIDIA_DRIVER_CAPABILITIES=all",
            "NVIDIA_IMEX_CHANNELS=0",
        ];
        let config = config(&env, &["/bin/busybox", "cat", "/proc/self/mountinfo"]);
        self.gpu.container.configure(adapted(config, self.place, shape));
        let rootfs = self.gpu.container.rootfs();
        fs::remove_dir_all(&rootfs).unwrap();
        rootfs::build(&rootfs);
        if self.place.musl {
            fs::create_dir_all(rootfs.join("lib")).unwrap();
            fs::write(rootfs.join("lib/ld-musl-x86_64.so.1"), "").unwrap();
        } else {
            fs::write(rootfs.join("etc/debian_version"), "12.0\n").unwrap();
        }
        let Subject { gpu, canary, place } = self;
        let mut cell = Cell { gpu, canary, place: *place, shape, immutable: None };
        cell.arrange().then_some(cell)
    }
}

/// An image with one hostile thing in it.
struct Cell<'a> {
    gpu: &'a GpuContainer,
    canary: &'a Canary,
    place: Place,
    shape: Shape,
    immutable: Option<PathBuf>,
}

impl Cell<'_> {
    fn arrange(&mut self) -> bool {
        let path = self.gpu.container.rootfs().join(self.place.path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            let _ = fs::remove_file(&path);
        }
        if self.shape == Shape::NoParents {
            let parent = path.parent().unwrap();
            if parent != self.gpu.container.rootfs() && parent.exists() {
                fs::remove_dir_all(parent).unwrap();
            }
            return true;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let canary = |name: &str| self.canary.path(name);
        let through = |prefix: &str, name: &str| {
            PathBuf::from(format!("{prefix}{}", self.canary.path(name).display()))
        };
        let link = |target: PathBuf| symlink(target, &path).unwrap();
        let node = |kind, number| {
            mknodat(CWD, &path, kind, Mode::from_raw_mode(0o666), number).unwrap();
        };
        match self.shape {
            Shape::LinkToDirectory => link(canary("empty")),
            Shape::LinkUpwards => link(self.canary.upwards("")),
            Shape::LinkThroughProcRoot => link(through("/proc/self/root", "")),
            Shape::LinkThroughProcessOne => link(through("/proc/1/root", "")),
            Shape::LinkThroughDescriptor => link(PathBuf::from("/proc/self/fd/3")),
            Shape::LinkToCwd => link(PathBuf::from("/proc/self/cwd")),
            Shape::LinkToFile => link(canary("victim")),
            Shape::LinkToNothing => link(canary("empty/new")),
            Shape::LinkLoop => link(PathBuf::from(path.file_name().unwrap())),
            Shape::Fifo => node(FileType::Fifo, 0),
            Shape::Socket => node(FileType::Socket, 0),
            Shape::EndlessDevice => node(FileType::CharacterDevice, makedev(1, 5)),
            Shape::GpuDevice => node(FileType::CharacterDevice, makedev(195, 7)),
            Shape::Giant => fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
            Shape::SmallFile => fs::write(&path, "hostile\n").unwrap(),
            Shape::EmptyDirectory | Shape::TmpfsMount | Shape::ReadOnlyMount => {
                fs::create_dir(&path).unwrap();
            }
            Shape::FullDirectory => {
                fs::create_dir_all(path.join("deep/er")).unwrap();
                fs::write(path.join("deep/file"), "image\n").unwrap();
            }
            Shape::HardLink => return fs::hard_link(canary("victim"), &path).is_ok(),
            Shape::Immutable => {
                let made = match Path::new(self.place.path).extension() {
                    Some(_) => fs::write(&path, "image\n"),
                    None => fs::create_dir(&path),
                };
                made.unwrap();
                if !chattr("+i", &path) {
                    return false;
                }
                self.immutable = Some(path.clone());
            }
            Shape::NoParents => {}
        }
        true
    }

    fn listing(&self) -> Vec<String> {
        images::listing(&self.gpu.container.rootfs(), &[]).expect("list the image")
    }

    /// Runs it and says what is wrong.
    fn verdict(&self) -> Vec<String> {
        let before = self.listing();
        let begin = Instant::now();
        let output = self.gpu.run();
        let took = begin.elapsed();
        let mut wrong = said_wrong(&output);
        if took > LIMIT {
            wrong.push(format!("it took {took:?}"));
        }
        let canary = self.canary.path("");
        // The fourth field is what is mounted.
        let mounted = |line: &&str| {
            line.split(' ').nth(3).is_some_and(|root| Path::new(root).starts_with(&canary))
        };
        wrong.extend(output.stdout.lines().find(mounted).map(|line| format!("mounted: {line}")));
        let states = fs::read_dir(self.gpu.container.state_root());
        wrong.extend(states.into_iter().flatten().flatten().map(|e| format!("left: {e:?}")));
        wrong.extend(self.canary.changes());
        let after = self.listing();
        let changed = before.iter().filter(|line| !after.contains(line)).map(|l| format!("- {l}"));
        let added = after.iter().filter(|line| !before.contains(line)).map(|l| format!("+ {l}"));
        let kept = |line: &String| !self.is_loader_file(line);
        wrong.extend(changed.chain(added).filter(kept).map(|line| format!("the image: {line}")));
        wrong
    }

    /// The one kind of thing in an image that gpurun changes (docs/security.md): a loader's file, and
    /// only that one.
    fn is_loader_file(&self, line: &str) -> bool {
        let path = line.split(' ').nth(1).unwrap_or_default();
        let loaders = [
            "etc/ld.so.cache",
            "etc/.gpurun-ld.so.cache",
            "etc/ld.so.conf",
            "etc/ld.so.conf.d/00-gpurun.conf",
            "etc/ld-musl-x86_64.path",
        ];
        path == self.place.path && loaders.contains(&path)
    }
}

impl Drop for Cell<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.immutable {
            chattr("-i", path);
        }
    }
}

fn adapted(mut config: Config, place: Place, shape: Shape) -> Config {
    if place.own_dev {
        for point in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
            config = config.without_mount(point);
        }
    }
    if place.own_proc {
        config = config
            .without_mount("/proc")
            .remove("/linux/maskedPaths")
            .remove("/linux/readonlyPaths")
            .set("/process/args", integration_tests::json!(["/bin/busybox", "true"]));
    }
    let point = format!("/{}", place.path);
    match shape {
        Shape::TmpfsMount => config.mount(&point, "tmpfs", "tmpfs", &["mode=755"]),
        Shape::ReadOnlyMount => config.mount(&point, "bind", "nothing", &["bind", "ro"]),
        _ => config,
    }
}

fn said_wrong(output: &Output) -> Vec<String> {
    let lines = output.stderr.trim().lines().count();
    match output.code {
        0 => Vec::new(),
        1 if lines == 1 && !output.stderr.contains("panicked") && output.stderr.contains('/') => {
            Vec::new()
        }
        _ => vec![format!("neither success nor a clear error: {output:?}")],
    }
}

fn chattr(flag: &str, path: &Path) -> bool {
    Command::new("chattr").arg(flag).arg(path).output().is_ok_and(|done| done.status.success())
}

/// Which half of the cells is tried; `None`: both.
fn half() -> Option<usize> {
    match std::env::var("GPURUN_CELLS").as_deref() {
        Ok("all") => None,
        Ok(half) => Some(half.parse().expect("GPURUN_CELLS is `all`, 0 or 1")),
        Err(_) => usize::try_from(std::process::id() % 2).ok(),
    }
}

/// Every shape at every one of the places, or every other. The failure lists all that went wrong.
fn matrix(places: &[Place]) {
    gpurun_only!("other runtimes know no GPU requests");
    if std::env::consts::ARCH != "x86_64" {
        return skipped("the places are those of x86_64");
    }
    let machine = machine();
    let mut wrong = Vec::new();
    let mut worked = 0;
    let half = half();
    if let Some(half) = half {
        println!("GPURUN_CELLS={half}");
    }
    for (row, place) in places.iter().enumerate() {
        let subject = Subject::new(&machine, *place);
        for (column, shape) in SHAPES.iter().enumerate() {
            if half.is_some_and(|half| (row + column) % 2 != half) {
                continue;
            }
            let Some(cell) = subject.cell(*shape) else {
                skipped(&format!("{shape:?} cannot be made here"));
                continue;
            };
            let found = cell.verdict();
            worked += usize::from(found.is_empty());
            if !found.is_empty() {
                wrong.push(format!("{} as {shape:?}:\n    {}", place.path, found.join("\n    ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{worked} cells are right, {}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn library_and_firmware_places_as_anything_reach_nothing_of_the_host() {
    matrix(LIBRARIES);
}

#[test]
fn the_loaders_and_compatibility_places_as_anything_reach_nothing_of_the_host() {
    matrix(LOADER);
}

#[test]
fn device_and_proc_places_as_anything_reach_nothing_of_the_host() {
    matrix(DEVICES);
}

#[test]
fn program_data_and_socket_places_as_anything_reach_nothing_of_the_host() {
    matrix(DATA);
}

/// A directory that the plan needs, exchanged for a link out of the image all the time.
#[test]
fn places_exchanged_for_links_while_gpurun_works_lead_nowhere() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let places = [
        at("usr/lib/x86_64-linux-gnu"),
        at("usr/lib"),
        at("lib/firmware"),
        at("etc"),
        at("etc/ld.so.conf.d"),
        at("usr/share"),
        at("usr/bin"),
        at("run"),
        at("usr/local/cuda/compat"),
        dev("dev"),
        dev("dev/dri"),
    ];
    let (mut done, mut exchanged) = (0, 0);
    for place in places {
        let subject = Subject::new(&machine, place);
        let cell = subject.cell(Shape::EmptyDirectory).expect("a directory");
        let rootfs = subject.gpu.container.rootfs();
        let link = rootfs.join("link");
        symlink(subject.canary.upwards(""), &link).unwrap();
        let racer = Racer::start(vec![(rootfs.join(place.path), link)]);
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            let output = cell.gpu.run();
            let wrong = said_wrong(&output);
            assert!(wrong.is_empty(), "{}: {wrong:?}", place.path);
            done += u32::from(output.code == 0);
            subject.canary.assert_untouched();
        }
        exchanged += racer.exchanges();
    }
    assert!(exchanged > 1000, "the attacker had {exchanged} turns");
    println!("{done} containers started, {exchanged} exchanges");
}

/// The loader's cache is written to the image and never to a volume, also when the image's /etc
/// becomes a link to a volume in between.
#[test]
fn an_etc_exchanged_for_a_link_to_a_volume_brings_no_file_to_the_host() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let env = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=utility"];
    let config = config(&env, &["/bin/busybox", "true"]);
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, Config::idle());
    let volume = gpu.container.path("volume");
    fs::create_dir(&volume).unwrap();
    let source = volume.to_str().unwrap();
    gpu.container.configure(config.mount("/volume", "bind", source, &["bind", "rw"]));
    let rootfs = gpu.container.rootfs();
    fs::create_dir_all(rootfs.join("usr/lib/x86_64-linux-gnu")).unwrap();
    fs::create_dir(rootfs.join("volume")).unwrap();
    symlink("volume", rootfs.join("link")).unwrap();
    let racer = Racer::start(vec![(rootfs.join("etc"), rootfs.join("link"))]);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let wrong = said_wrong(&gpu.run());
        assert!(wrong.is_empty(), "{wrong:?}");
        let files: Vec<_> = fs::read_dir(&volume).unwrap().flatten().map(|e| e.path()).collect();
        assert!(files.is_empty(), "after {} exchanges: {files:?}", racer.exchanges());
    }
}
