//! What the tests of this room share: real cgroups that are always removed, processes to put into
//! them, and a directory tree that stands in for cgroup v2 where a controller is missing here.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;
use rustix::fs::{FileType, Mode as FileMode};

use super::{Cgroup, Driver, Hierarchy, Mode};

/// A cgroup of the real machine; killed and removed at the end of the test, also of a failed one.
pub(super) struct Real(pub Cgroup);

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.0.kill_all(Signal::SIGKILL);
        let _ = self.0.delete();
    }
}

/// The mode that the machine is in. `None` (with the reason printed): it cannot be used.
pub(super) fn real(name: &str) -> Option<Real> {
    let path = format!("/gpurun-test-{}-{name}", std::process::id());
    let cgroup = Cgroup::locate(Some(Path::new(&path)), "x", false);
    usable(cgroup.map_err(|err| err.to_string()))
}

/// The machine's v2 hierarchy alone, which on a hybrid machine has no controllers.
pub(super) fn real_v2(name: &str) -> Option<Real> {
    let path = PathBuf::from(format!("gpurun-test-{}-{name}-v2", std::process::id()));
    let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(PathBuf::from)
        .into_iter()
        .find(|mount| mount.join("cgroup.controllers").exists());
    let hierarchy = |mount| Hierarchy { controllers: Vec::new(), mount, path };
    usable(mount.map(hierarchy).ok_or("no cgroup v2".to_owned()).map(|hierarchy| Cgroup {
        mode: Mode::V2,
        driver: Driver::Cgroupfs,
        hierarchies: vec![hierarchy],
        refused: Vec::new(),
        id: None,
    }))
}

fn usable(cgroup: Result<Cgroup, String>) -> Option<Real> {
    let tried = cgroup.and_then(|cgroup| {
        for hierarchy in &cgroup.hierarchies {
            let probe = hierarchy.mount.join(format!("gpurun-test-{}-probe", std::process::id()));
            // Tests run side by side; one of them wins.
            if let Err(err) = fs::create_dir(&probe)
                && err.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(format!("{}: {err}", probe.display()));
            }
            let _ = fs::remove_dir(&probe);
        }
        Ok(cgroup)
    });
    match tried {
        Ok(cgroup) => Some(Real(cgroup)),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

/// A shell that runs one line after the other and answers with one line each.
pub(super) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    pub fn new() -> Self {
        let mut child =
            Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Runs a line; returns its answer.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// What opening a path for reading says: nothing, or the reason.
    pub fn open(&mut self, path: &Path) -> String {
        let path = path.display();
        self.ask(&format!("e=$(head -c 0 {path} 2>&1); echo \"${{e##*: }}\""))
    }

    /// Whether the process is a zombie or gone.
    pub fn ended(&mut self) -> bool {
        self.child.wait().is_ok_and(|status| !status.success())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with device nodes, removed at the end.
pub(super) struct Nodes(pub PathBuf);

impl Nodes {
    /// `None` (with the reason printed): device nodes cannot be made or not be used here.
    pub fn new(name: &str) -> Option<Self> {
        let dir =
            std::env::temp_dir().join(format!("gpurun-test-nodes-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let nodes = Self(dir);
        match nodes.make(1, 3).and_then(|null| fs::File::open(null).map(drop)) {
            Ok(()) => Some(nodes),
            Err(err) => {
                println!("skipped: device nodes do not work in {}: {err}", nodes.0.display());
                None
            }
        }
    }

    /// Makes a character device.
    pub fn make(&self, major: u32, minor: u32) -> std::io::Result<PathBuf> {
        let path = self.0.join(format!("{major}-{minor}"));
        let mode = FileMode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, mode, device)?;
        Ok(path)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Plain files in place of a cgroup v2 directory with the given controllers.
pub(super) struct Fake {
    root: PathBuf,
    pub cgroup: Cgroup,
}

impl Fake {
    pub fn new(name: &str, controllers: &str, files: &[&str]) -> Self {
        let root = std::env::temp_dir().join(format!("gpurun-test-{}-{name}", std::process::id()));
        let dir = root.join("box");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("cgroup.controllers"), controllers).unwrap();
        for file in files {
            fs::write(dir.join(file), "").unwrap();
        }
        let hierarchy =
            Hierarchy { controllers: Vec::new(), mount: root.clone(), path: PathBuf::from("box") };
        let cgroup = Cgroup {
            mode: Mode::V2,
            driver: Driver::Cgroupfs,
            hierarchies: vec![hierarchy],
            refused: Vec::new(),
            id: None,
        };
        Self { root, cgroup }
    }

    pub fn put(&self, file: &str, content: &str) {
        fs::write(self.root.join("box").join(file), content).unwrap();
    }

    pub fn get(&self, file: &str) -> String {
        fs::read_to_string(self.root.join("box").join(file)).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
