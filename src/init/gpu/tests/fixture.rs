//! Small root filesystems made of this machine's loader and of stub libraries.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::gpu::plan::{Abi, FileKind, FileMount, Link, Place, Plan};
use crate::init::gpu::{ApplyError, apply};
use crate::init::journal::Journal;
use crate::init::root::Root;
use crate::init::undo::{UndoError, undo};

/// Runs `test` in a thread with a mount namespace of its own.
pub fn in_mount_namespace(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let keep = stubs();
    let thread = std::thread::spawn(move || {
        let _keep = keep;
        // A thread may leave the mount namespace of its process.
        #[allow(deprecated)]
        rustix::thread::unshare(UnshareFlags::NEWNS).unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        test();
    });
    thread.join().unwrap();
}

/// A new directory that nobody else has.
pub fn new_dir(what: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("gpurun-{what}-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Compiled stubs, shared by the tests that run at the time.
pub struct Stubs(PathBuf);

impl Drop for Stubs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn stubs() -> Arc<Stubs> {
    static STUBS: Mutex<Weak<Stubs>> = Mutex::new(Weak::new());
    let mut shared = STUBS.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let dir = new_dir("stubs");
        let cc = |compiler: &str, name: &str, source: &str, args: &[&str]| {
            let file = dir.join(format!("{name}.c"));
            fs::write(&file, source).unwrap();
            let output = Command::new(compiler)
                .args(["-o".as_ref(), dir.join(name).as_os_str(), file.as_os_str()])
                .args(args)
                .output();
            output.is_ok_and(|output| output.status.success())
        };
        for (name, soname, who) in [
            ("libcuda.so.550.54.14", "libcuda.so.1", "driver"),
            ("libnvidia-ml.so.550.54.14", "libnvidia-ml.so.1", "driver"),
            ("other", "libcuda.so.1", "other"),
        ] {
            let source = format!("const char *who(void) {{ return \"{who}\"; }}\n");
            let soname = format!("-Wl,-soname,{soname}");
            assert!(cc("cc", name, &source, &["-shared", "-fPIC", "-nostdlib", &soname]));
        }
        let probe = "#include <dlfcn.h>\n#include <stdio.h>\n\
            int main(int c, char **v) { void *h = dlopen(v[1], RTLD_NOW);\n\
            const char *(*who)(void) = h ? (const char *(*)(void))dlsym(h, \"who\") : 0;\n\
            puts(!h ? \"none\" : who ? who() : \"nobody\"); return 0; }\n";
        assert!(cc("cc", "probe", probe, &["-ldl"]));
        cc("musl-gcc", "probe-musl", probe, &[]);
        let made = Arc::new(Stubs(dir));
        *shared = Arc::downgrade(&made);
        made
    })
}

impl Stubs {
    pub fn library(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Two libraries with their links, as a vendor plans them.
    pub fn plan(&self) -> Plan {
        let place = |name: &str| Place::Library(Abi::Native, name.into());
        let library = |name: &str, soname: &str| FileMount {
            source: self.library(name),
            destination: place(name),
            kind: FileKind::Library { soname: Some(soname.into()), abi: Abi::Native },
            why: "the driver's library".into(),
        };
        let link = |name: &str, target: &str| Link {
            destination: place(name),
            target: target.into(),
            why: "the library's name".into(),
        };
        Plan {
            files: vec![
                library("libcuda.so.550.54.14", "libcuda.so.1"),
                library("libnvidia-ml.so.550.54.14", "libnvidia-ml.so.1"),
            ],
            links: vec![
                link("libcuda.so", "libcuda.so.1"),
                link("libcuda.so.1", "libcuda.so.550.54.14"),
                link("libnvidia-ml.so.1", "libnvidia-ml.so.550.54.14"),
            ],
            ..Plan::default()
        }
    }
}

/// A rootfs in a directory of its own, which goes away with it.
pub struct Image {
    base: PathBuf,
}

impl Drop for Image {
    fn drop(&mut self) {
        self.unmount();
        let _ = fs::remove_dir_all(&self.base);
    }
}

impl Image {
    /// Nothing but a directory, beside which there is a canary.
    pub fn empty() -> Self {
        let image = Self { base: new_dir("image") };
        fs::create_dir(image.base.join("rootfs")).unwrap();
        fs::create_dir(image.base.join("outside")).unwrap();
        fs::write(image.base.join("outside/canary"), "canary").unwrap();
        image
    }

    fn glibc(dirs: &[&str], libc: &str) -> Self {
        let image = Self::empty();
        for dir in ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/etc", "/proc", "/run"] {
            fs::create_dir_all(image.path(dir)).unwrap();
        }
        for dir in dirs {
            fs::create_dir_all(image.path(dir)).unwrap();
        }
        for dir in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{dir}"), image.path(dir)).unwrap();
        }
        image.copy("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2");
        image.copy("/lib/x86_64-linux-gnu/libc.so.6", libc);
        image.copy("/sbin/ldconfig", "/sbin/ldconfig");
        image.copy(stubs().library("probe").to_str().unwrap(), "/bin/probe");
        image
    }

    /// As Debian lays it out, with merged `/usr`, without a cache.
    pub fn debian() -> Self {
        let image =
            Self::glibc(&["/usr/lib/x86_64-linux-gnu"], "/usr/lib/x86_64-linux-gnu/libc.so.6");
        image.write("/etc/debian_version", "12.0\n");
        image
    }

    /// As Fedora lays it out (this machine's loader finds its libc in `/usr/lib`).
    pub fn fedora() -> Self {
        Self::glibc(&[], "/usr/lib/libc.so.6")
    }

    /// As Alpine lays it out; `None` without a musl compiler.
    pub fn alpine() -> Option<Self> {
        let probe = stubs().library("probe-musl");
        if !probe.exists() {
            println!("skipped: no musl-gcc here");
            return None;
        }
        let image = Self::empty();
        for dir in ["/bin", "/lib", "/usr/lib", "/etc"] {
            fs::create_dir_all(image.path(dir)).unwrap();
        }
        image.copy("/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-x86_64.so.1");
        image.copy(probe.to_str().unwrap(), "/bin/probe");
        Some(image)
    }

    /// A path of the image, on the host. Only for images without links in the way.
    pub fn path(&self, path: &str) -> PathBuf {
        self.base.join("rootfs").join(path.trim_start_matches('/'))
    }

    pub fn outside(&self) -> PathBuf {
        self.base.join("outside")
    }

    pub fn root(&self) -> Root {
        Root::open(&self.path("/")).unwrap()
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(from, self.path(to)).unwrap();
    }

    pub fn write(&self, path: &str, text: &str) {
        self.write_bytes(path, text.as_bytes());
    }

    pub fn write_bytes(&self, path: &str, bytes: &[u8]) {
        fs::write(self.path(path), bytes).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        symlink(target, self.path(path)).unwrap();
    }

    /// Applies a plan; the journal is kept for [`Image::undo`].
    pub fn apply(&self, plan: &Plan) -> Result<(), ApplyError> {
        let file = fs::File::options().append(true).create(true).open(self.base.join("journal"));
        apply(plan, &self.root(), None, &mut Journal::new(file.unwrap()))
    }

    /// Undoes the journal as `delete` does: where the container's mounts are not seen.
    pub fn undo(&self) -> Vec<UndoError> {
        self.unmount_inner();
        undo(&self.path("/"), &self.journal())
    }

    /// What [`Image::apply`] has noted.
    pub fn journal(&self) -> Vec<u8> {
        fs::read(self.base.join("journal")).unwrap()
    }

    /// Runs a program of the image in it.
    pub fn run(&self, command: &[&str]) -> String {
        let run = || Command::new("chroot").arg(self.path("/")).args(command).output().unwrap();
        // A test on another thread may have forked while the program was being copied; until its
        // child has called exec, the program is open for writing there.
        let busy = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("file busy");
        let tries = std::iter::repeat_with(run).take(100);
        let output = tries
            .inspect(|output| {
                if busy(output) {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            })
            .find(|output| !busy(output))
            .expect("a program that can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command:?}: {text}{output:?}");
        text
    }

    /// Who answers when a program of the image opens the library.
    pub fn probe(&self, library: &str) -> String {
        self.run(&["/bin/probe", library]).trim().to_owned()
    }

    pub fn bind(&self, source: &Path, target: &str) {
        rustix::mount::mount_bind(source, self.path(target)).unwrap();
    }

    pub fn mount_proc(&self) {
        let none = MountFlags::empty();
        rustix::mount::mount("proc", self.path("/proc"), "proc", none, None).unwrap();
    }

    pub fn make_read_only(&self) {
        rustix::mount::mount_bind(self.path("/"), self.path("/")).unwrap();
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(self.path("/"), flags, "").unwrap();
    }

    /// Everything that is mounted in the image, in the order in which it was mounted.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.filter(|point| point.starts_with(&self.base)).collect()
    }

    fn unmount_inner(&self) {
        let rootfs = self.path("/");
        let rootfs = rootfs.components().collect::<PathBuf>();
        for point in self.mounts().iter().rev().filter(|point| **point != rootfs) {
            rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).unwrap();
        }
    }

    pub fn unmount(&self) {
        for point in self.mounts().iter().rev() {
            let _ = rustix::mount::unmount(point, UnmountFlags::DETACH);
        }
    }

    /// Every file of the rootfs: path, type and mode, link text; not the content.
    pub fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.path("/"), &mut lines);
        let base = self.path("/").to_string_lossy().into_owned();
        lines.iter().map(|line| line.replace(&base, "/")).collect()
    }

    pub fn listing_after_unmount(&self) -> Vec<String> {
        self.unmount();
        self.listing()
    }

    /// The canary beside the rootfs, and that nothing joined it.
    pub fn assert_outside_is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().map(|e| e.unwrap()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(fs::read_to_string(self.outside().join("canary")).unwrap(), "canary");
    }
}

fn list(dir: &Path, lines: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let stat = fs::symlink_metadata(&path).unwrap();
        let text = fs::read_link(&path).unwrap_or_default();
        lines.push(format!("{} {:o} {}", path.display(), stat.mode(), text.display()));
        if stat.is_dir() {
            list(&path, lines);
        }
    }
}
