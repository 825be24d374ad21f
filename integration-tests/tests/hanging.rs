//! Containers that do not want to go: cgroups nested deeper than any path, processes that no
//! signal ends.

use integration_tests::container::text;
use integration_tests::{
    Config, Container, Output, Runtime, cgroup, gpurun_only, json, skipped, wait_for,
};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Of 200 bytes each; a path has 4096 at most.
const LEVELS: usize = 60;

/// Nested cgroups, with a process in the last, as a container with a writable mount makes them.
struct Deep {
    top: PathBuf,
    name: String,
    pid: i64,
}

impl Deep {
    fn make(top: PathBuf, pid: i64) -> Deep {
        let deep = Deep { top, name: "a".repeat(200), pid };
        let mut here = deep.open();
        for _ in 0..LEVELS {
            rustix::fs::mkdirat(&here, &deep.name, Mode::from_raw_mode(0o755)).unwrap();
            here = below(&here, &deep.name).unwrap();
        }
        let procs = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = rustix::fs::openat(&here, "cgroup.procs", procs, Mode::empty()).unwrap();
        rustix::io::write(&procs, pid.to_string().as_bytes()).unwrap();
        deep
    }

    fn open(&self) -> OwnedFd {
        File::open(&self.top).unwrap().into()
    }
}

impl Drop for Deep {
    fn drop(&mut self) {
        if !self.top.exists() {
            return;
        }
        // The test has failed.
        cgroup::kill(i32::try_from(self.pid).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(200));
        let mut all = vec![self.open()];
        while let Some(next) = below(all.last().unwrap(), &self.name) {
            all.push(next);
        }
        while let Some(_) = all.pop()
            && let Some(above) = all.last()
        {
            let _ = rustix::fs::unlinkat(above, &self.name, AtFlags::REMOVEDIR);
        }
    }
}

fn below(above: &OwnedFd, name: &str) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(above, name, flags, Mode::empty()).ok()
}

#[test]
fn cgroups_nested_deeper_than_any_path_go_with_their_container() {
    gpurun_only!("runc leaves them");
    for runtime in Runtime::each() {
        for shared in [false, true] {
            let config = Config::sh("sleep 1000 & exec sleep 1000");
            let config = if shared { config.namespace("pid", None) } else { config };
            let c = Container::running(runtime, config);
            let controller = if runtime.cgroup == cgroup::Version::V1 { "devices" } else { "" };
            let top = cgroup::directory(runtime.cgroup, controller, c.pid()).unwrap();
            let other = || {
                let pids = fs::read_to_string(top.join("cgroup.procs")).unwrap();
                pids.lines().filter_map(|pid| pid.parse().ok()).find(|pid: &i64| *pid != c.pid())
            };
            wait_for("the second process", || other().is_some());
            let deepest = other().unwrap();
            let _deep = Deep::make(top.clone(), deepest);
            let listed = c.call_on("ps", &["--format", "json"]);
            assert!(listed.ok().contains(&deepest.to_string()), "{listed:?}");
            c.kill("KILL").silent();
            c.wait_until("stopped");
            c.delete(&[]).silent();
            assert!(!top.exists());
            c.assert_gone();
        }
    }
}

/// A filesystem that never answers a lookup of `x`: who opens that hangs, and once it is killed in
/// a state that no signal ends. Goes when it is dropped; then so do they.
struct Unanswering(PathBuf);

impl Unanswering {
    /// `None` (with the reason printed): there is no FUSE here.
    fn mount(at: PathBuf) -> Option<Unanswering> {
        fs::create_dir(&at).unwrap();
        let mounted = OpenDevice::open().and_then(|device| device.mount(&at));
        match mounted {
            Ok(device) => {
                std::thread::spawn(move || serve(device));
                Some(Unanswering(at))
            }
            Err(reason) => {
                skipped(&format!("no FUSE: {reason}"));
                None
            }
        }
    }
}

impl Drop for Unanswering {
    fn drop(&mut self) {
        // By force, so that whoever waits for an answer hears that there will be none.
        for flag in ["-f", "-l"] {
            let _ = Command::new("umount").arg(flag).arg(&self.0).stderr(Stdio::null()).status();
        }
    }
}

struct OpenDevice(File);

impl OpenDevice {
    fn open() -> std::io::Result<OpenDevice> {
        File::options().read(true).write(true).open("/dev/fuse").map(OpenDevice)
    }

    fn mount(self, at: &Path) -> std::io::Result<File> {
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other";
        let mount = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", options, "unanswering"])
            .arg(at)
            .stdin(self.0.try_clone()?)
            .output()?;
        match mount.status.success() {
            true => Ok(self.0),
            false => {
                Err(std::io::Error::other(String::from_utf8_lossy(&mount.stderr).into_owned()))
            }
        }
    }
}

/// fuse(4): what the kernel asks on the way to `x`, and nothing more.
fn serve(mut device: File) {
    const LOOKUP: u32 = 1;
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const STATFS: u32 = 17;
    const INIT: u32 = 26;
    const INTERRUPT: u32 = 36;
    const BATCH_FORGET: u32 = 42;
    let mut request = vec![0; 1 << 20];
    while let Ok(length) = device.read(&mut request) {
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        let asked = word(4);
        let answer = match asked {
            INIT => Ok(init()),
            GETATTR => Ok(attributes()),
            STATFS => Ok(vec![0; 80]),
            LOOKUP if &request[40..length] == b"x\0" => continue,
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            _ => Err(-38), // ENOSYS
        };
        let body = answer.as_deref().unwrap_or_default();
        let mut reply = u32::try_from(16 + body.len()).unwrap().to_le_bytes().to_vec();
        reply.extend(answer.as_ref().err().copied().unwrap_or(0_i32).to_le_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        let _ = device.write(&reply);
    }
}

fn init() -> Vec<u8> {
    // Protocol 7.31, no readahead limit of note, no flags.
    let mut body: Vec<u8> = [7_u32, 31, 65536, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    body.extend([16_u16, 16].iter().flat_map(|n| n.to_le_bytes()));
    body.extend([65536_u32, 1].iter().flat_map(|n| n.to_le_bytes()));
    body.extend([0; 32]);
    body
}

/// Of the root, a directory, valid for long.
fn attributes() -> Vec<u8> {
    let mut body: Vec<u8> = 100_000_u64.to_le_bytes().to_vec();
    body.extend([0; 8]);
    body.extend(1_u64.to_le_bytes());
    body.extend([0; 52]);
    for word in [0o40755_u32, 2, 0, 0, 0, 4096, 0] {
        body.extend(word.to_le_bytes());
    }
    body
}

/// Calls, and sees that it does not take long.
#[track_caller]
fn soon(call: impl FnOnce() -> Output) -> Output {
    let begin = Instant::now();
    let output = call();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}: {output:?}", begin.elapsed());
    output
}

#[test]
fn a_process_that_hangs_in_the_kernel_is_named_after_a_while() {
    gpurun_only!("the words are gpurun's");
    // Where the pid namespace is shared, nothing but the signals ends the others.
    for (runtime, shared) in Runtime::each().into_iter().zip([true, false]) {
        let c = Container::new(runtime, Config::idle());
        let Some(mount) = Unanswering::mount(c.path("unanswering")) else { return };
        let config = Config::sh("cat /mnt/x & exec sleep 1000").mount(
            "/mnt",
            "bind",
            text(&mount.0),
            &["rbind"],
        );
        c.configure(if shared { config.namespace("pid", None) } else { config });
        c.run_detached();
        std::thread::sleep(Duration::from_millis(300));
        let killed = soon(|| c.kill("KILL"));
        if killed.code != 0 {
            killed.refused(1, &["process ", "hangs in the kernel"]);
        }
        soon(|| c.delete(&["--force"])).refused(1, &["process ", "hangs in the kernel"]);
        // It is still remembered, and goes when it can.
        drop(mount);
        c.delete(&["--force"]).silent();
        c.assert_gone();
    }
}

#[test]
fn so_is_the_init_of_a_create_that_hangs() {
    gpurun_only!("the words are gpurun's");
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        let Some(mount) = Unanswering::mount(c.path("unanswering")) else { return };
        c.configure(
            Config::idle()
                .mount("/mnt", "bind", text(&mount.0), &["rbind"])
                .set("/process/cwd", json!("/mnt/x")),
        );
        let creating = c.start_call(&["create", "--bundle", text(&c.bundle()), c.id()]);
        std::thread::sleep(Duration::from_millis(500));
        soon(|| c.delete(&["--force"])).refused(1, &["process ", "hangs in the kernel"]);
        drop(mount);
        let created = creating.wait();
        assert_ne!(created.code, 0, "{created:?}");
        c.delete(&["--force"]).silent();
        c.assert_gone();
    }
}
