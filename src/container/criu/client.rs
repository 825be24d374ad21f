//! One run of `criu swrk`: a request, criu's questions on the way, and its answer.
//!
//! [CRIU's RPC](https://criu.org/RPC): one protobuf message per packet of a `SOCK_SEQPACKET`
//! socket whose number is criu's argument.
//!
//! A request names directories by the descriptors of whoever made the socket. CRIU mounts in these
//! directories, which it can only do in its own mount namespace. So the socket and the descriptors
//! are made by the process that becomes criu, and the parent is sent the socket's other end.

use std::convert::Infallible;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use protobuf::{Message, MessageField};
use rust_criu::rust_criu_protobuf::rpc::{
    Criu_features, Criu_notify, Criu_req, Criu_req_type, Criu_resp,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendFlags, SocketFlags, SocketType,
};

use crate::container::launch::Entry;
use crate::container::resctrl::Resctrl;
use crate::init::channel::{Channel, FromInit, FromParent};
use crate::init::handover::join_session_keyring;
use crate::sys::clone::{CloneArgs, Forked, clone3};
use crate::{log, sys};

/// The version whose RPC can tell its version: runc's minimum.
const OLDEST: u32 = 3_00_00;

/// Where programs are looked for when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest message that is believed to be criu's.
const LONGEST_MESSAGE: usize = 1 << 20;

/// An installed criu.
#[derive(Debug, Clone)]
pub struct Criu {
    program: PathBuf,
    version: u32,
}

/// How criu is to be started.
#[derive(Debug, Default)]
pub struct Surroundings<'a> {
    /// The cgroup it runs in, and with it what it restores.
    pub cgroup: Option<Entry<'a>>,
    /// The resctrl group, likewise.
    pub resctrl: Option<&'a Resctrl>,
    /// Whether it gets a mount namespace of its own.
    pub own_mounts: bool,
    /// Whether it gets our stdin, stdout and stderr; otherwise /dev/null.
    pub stdio: bool,
    /// The session keyring that it makes: what it restores has it from there, because images hold
    /// none.
    pub keyring: Option<Keyring<'a>>,
}

/// A session keyring that is made.
#[derive(Debug)]
pub struct Keyring<'a> {
    /// Its name.
    pub name: String,
    /// The SELinux label of those who are to use it.
    pub selinux: Option<&'a str>,
}

/// What criu is asked, and the descriptors that the question names, which criu inherits.
#[derive(Debug)]
pub struct Request {
    /// The message.
    pub message: Criu_req,
    /// The descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// A criu at work.
#[derive(Debug)]
struct Session {
    socket: OwnedFd,
    pid: i32,
}

impl Criu {
    /// Looks for `criu` in `PATH` and asks for its version.
    ///
    /// # Errors
    /// It is not installed, too old, or cannot work on this kernel.
    pub fn find() -> Result<Self> {
        let program = in_path().context(
            "CRIU version check failed: \"criu\": executable file not found in $PATH: install \
             criu",
        )?;
        let mut criu = Self { program, version: 0 };
        let answer = criu
            .ask(Criu_req_type::VERSION, None)
            .context("CRIU version check failed")?
            .version
            .into_option()
            .context("CRIU version check failed: the answer has no version")?;
        criu.version = number(
            answer.major_number(),
            answer.minor_number(),
            answer.sublevel(),
            answer.has_gitid(),
        );
        criu.require(OLDEST)?;
        log::debug(format_args!("using {} {}", criu.program.display(), criu.version));
        Ok(criu)
    }

    /// Whether it is at least this version: 3.17.1 is `31701`.
    #[must_use]
    pub fn is_at_least(&self, version: u32) -> bool {
        self.version >= version
    }

    /// Refuses an older one, in runc's words.
    ///
    /// # Errors
    /// It is older.
    pub fn require(&self, version: u32) -> Result<()> {
        if !self.is_at_least(version) {
            bail!("CRIU version {} must be {version} or higher", self.version);
        }
        Ok(())
    }

    /// Refuses a criu or a kernel that lacks one of `wanted`, in runc's words.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn require_features(&self, wanted: &Criu_features) -> Result<()> {
        let found = self
            .ask(Criu_req_type::FEATURE_CHECK, Some(wanted.clone()))
            .context("CRIU feature check failed")?
            .features
            .into_option()
            .context("CRIU feature check failed: the answer has no features")?;
        let mut missing = Vec::new();
        if wanted.mem_track() && !found.mem_track() {
            missing.push("MemTrack");
        }
        if wanted.lazy_pages() && !found.lazy_pages() {
            missing.push("LazyPages");
        }
        if missing.is_empty() {
            return Ok(());
        }
        bail!(
            "criu is missing features: [{}]: this kernel or this criu does not have them (see \
             criu check --all)",
            missing.join(" ")
        )
    }

    /// A question without options.
    fn ask(&self, kind: Criu_req_type, features: Option<Criu_features>) -> Result<Criu_resp> {
        let mut request = Criu_req::new();
        request.set_type(kind);
        request.features = MessageField::from_option(features);
        self.run(
            kind,
            &Surroundings::default(),
            move || Ok(Request { message: request, descriptors: Vec::new() }),
            |_, _| Ok(()),
        )
    }

    /// Starts criu with the request that `request` makes, answers its notifications with
    /// `notify`, and returns its answer when it has ended.
    ///
    /// `request` runs in the new process, in the cgroup and the mount namespace that criu will
    /// have. A notification that fails makes criu give up and undo what it did; the error is
    /// returned then.
    ///
    /// # Errors
    /// criu cannot be started, failed (`criu failed: type … errno …`), or `notify`'s error.
    pub fn run(
        &self,
        kind: Criu_req_type,
        surroundings: &Surroundings<'_>,
        request: impl FnOnce() -> Result<Request>,
        mut notify: impl FnMut(&Criu_notify, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Criu_resp> {
        let session = self.start(surroundings, request)?;
        let answer = session.converse(kind, &mut notify);
        let status = session.end()?;
        let answer = answer?;
        // After a pre-dump criu waits for the next one and calls the end of the line an error.
        let quiet = matches!(kind, Criu_req_type::PRE_DUMP);
        match status {
            WaitStatus::Exited(_, 0) => Ok(answer),
            _ if quiet => Ok(answer),
            WaitStatus::Exited(_, code) => bail!("criu failed: exit status {code}"),
            WaitStatus::Signaled(_, signal, _) => bail!("criu failed: signal: {signal}"),
            _ => bail!("criu failed"),
        }
    }

    fn start(
        &self,
        surroundings: &Surroundings<'_>,
        request: impl FnOnce() -> Result<Request>,
    ) -> Result<Session> {
        let (line, their_line) = stream_pair().context("cannot make the line to criu")?;
        let (parent, child) = Channel::pair().context("cannot make the line to criu")?;
        let flags = if surroundings.own_mounts { libc::CLONE_NEWNS as u64 } else { 0 };
        let forked = clone3(&CloneArgs { flags, cgroup: None });
        let pid = match forked.context("cannot start criu (clone3)")? {
            Forked::Parent { pid, .. } => pid,
            Forked::Child => {
                drop((parent, line));
                let Err(error) = self.become_criu(surroundings, request, their_line, &child);
                let _ = child.report(&FromInit::Failed(log::one_line(&error)));
                std::process::exit(255)
            }
        };
        // The death of either process is an end of file for the other.
        drop((their_line, child));
        match let_go(pid, surroundings, &parent, &line) {
            Ok(socket) => Ok(Session { socket, pid }),
            Err(error) => {
                drop(parent);
                wait_for(pid)?;
                Err(error)
            }
        }
    }

    /// In the new process.
    fn become_criu(
        &self,
        surroundings: &Surroundings<'_>,
        request: impl FnOnce() -> Result<Request>,
        line: OwnedFd,
        parent: &Channel,
    ) -> Result<Infallible> {
        parent.wait_for(FromParent::Go).context("the parent gave up")?;
        let Request { message, descriptors } = request()?;
        if let Some(Keyring { name, selinux }) = &surroundings.keyring {
            join_session_keyring(name, *selinux, true)?;
        }
        let message = message.write_to_bytes().context("cannot write the request for criu")?;
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .context("cannot make criu's socket")?;
        if !surroundings.stdio {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let null = rustix::fs::open("/dev/null", flags, Mode::empty())
                .context("cannot open /dev/null")?;
            rustix::stdio::dup2_stdin(&null).context("cannot set criu's stdin")?;
            rustix::stdio::dup2_stdout(&null).context("cannot set criu's stdout")?;
            rustix::stdio::dup2_stderr(&null).context("cannot set criu's stderr")?;
        }
        sys::fd::close_on_exec_from(3).context("cannot close descriptors on exec")?;
        for fd in descriptors.iter().chain([&theirs]) {
            rustix::io::fcntl_setfd(fd, FdFlags::empty()).context("cannot keep a descriptor")?;
        }
        send(ours.as_fd(), &message).context("cannot write to criu")?;
        sys::net::send_descriptor(line.as_fd(), ours.as_fd(), b"criu")
            .context("cannot hand criu's socket on")?;
        let socket = theirs.as_raw_fd().to_string();
        let failed = Command::new(&self.program).arg("swrk").arg(socket).exec();
        Err(anyhow!(failed).context(format!("cannot execute {}", self.program.display())))
    }
}

impl Session {
    fn converse(
        &self,
        kind: Criu_req_type,
        notify: &mut dyn FnMut(&Criu_notify, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Criu_resp> {
        let mut refused = None;
        loop {
            let (answer, fd) = match self.receive() {
                Ok(received) => received,
                // Our own refusal is why criu ended.
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            let found = answer.type_();
            if !answer.success() {
                return Err(refused.unwrap_or_else(|| {
                    let more = match answer.cr_errmsg() {
                        "" => String::new(),
                        text => format!(": {}", text.trim_end()),
                    };
                    anyhow!("criu failed: type {found:?} errno {}{more}", answer.cr_errno())
                }));
            }
            if found == kind {
                return refused.map_or(Ok(answer), Err);
            }
            if found != Criu_req_type::NOTIFY {
                bail!("unable to parse the response of criu: type {found:?}");
            }
            let question = answer.notify.as_ref().context("invalid response of criu: no notify")?;
            log::debug(format_args!("notify: {}", question.script()));
            let done = notify(question, fd);
            let mut reply = Criu_req::new();
            reply.set_type(Criu_req_type::NOTIFY);
            reply.set_notify_success(done.is_ok());
            if let Err(error) = done {
                refused.get_or_insert(error);
            }
            let reply = reply.write_to_bytes().context("cannot write the answer for criu")?;
            if let Err(err) = send(self.socket.as_fd(), &reply) {
                return Err(refused.unwrap_or_else(|| anyhow!("cannot write to criu: {err}")));
            }
        }
    }

    /// One message, and the descriptor that comes with it.
    fn receive(&self) -> Result<(Criu_resp, Option<OwnedFd>)> {
        // The length first: a datagram that does not fit is cut.
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, length) = rustix::io::retry_on_intr(|| net::recv(&self.socket, &mut [0u8], flags))
            .context("cannot hear criu")?;
        if length > LONGEST_MESSAGE {
            bail!("criu sent a message of {length} bytes");
        }
        let mut bytes = vec![0; length.max(1)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (got, fd) = loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let slices = &mut [IoSliceMut::new(&mut bytes)];
            match net::recvmsg(&self.socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(err) => return Err(err).context("cannot hear criu"),
                Ok(got) => {
                    let fd = control.drain().find_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                        _ => None,
                    });
                    break (got, fd);
                }
            }
        };
        if got.bytes == 0 {
            bail!("criu ended without an answer (unexpected EOF)");
        }
        if got.flags.contains(ReturnFlags::TRUNC) {
            bail!("criu's message was cut");
        }
        let bytes = bytes.get(..got.bytes).unwrap_or_default();
        Ok((Criu_resp::parse_from_bytes(bytes).context("cannot read criu's answer")?, fd))
    }

    /// Closes the line and waits until criu is gone.
    fn end(self) -> Result<WaitStatus> {
        drop(self.socket);
        wait_for(self.pid)
    }
}

/// Puts the new process where it belongs, waits until it is criu, and returns the line to it.
fn let_go(
    pid: i32,
    surroundings: &Surroundings<'_>,
    child: &Channel,
    line: &OwnedFd,
) -> Result<OwnedFd> {
    if let Some(entry) = &surroundings.cgroup {
        entry.bring_in(pid)?;
    }
    if let Some(resctrl) = surroundings.resctrl {
        resctrl.join(pid)?;
    }
    // One that has failed already is heard below.
    let _ = child.tell(FromParent::Go);
    match child.next().context("cannot hear criu's process")? {
        None => sys::net::receive_descriptor(line.as_fd()).context("cannot reach criu"),
        Some(FromInit::Failed(text)) => bail!("{text}"),
        Some(_) => bail!("criu's process said something else than expected"),
    }
}

fn wait_for(pid: i32) -> Result<WaitStatus> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Err(nix::Error::EINTR) => {}
            status => return status.context("cannot wait for criu"),
        }
    }
}

fn stream_pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    net::send(socket, bytes, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A release's number; what was built from git after it counts as the next minor version.
pub(super) fn number(major: i32, minor: i32, sublevel: i32, git: bool) -> u32 {
    let part = |number: i32| u32::try_from(number).unwrap_or(0).min(99);
    let release = part(major) * 1_00_00 + part(minor) * 1_00;
    if git { release + 1_00 } else { release + part(sublevel) }
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    // A relative directory would make the program depend on where the runtime was called.
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("criu"))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_build_from_git_counts_as_the_next_minor_version() {
        assert_eq!(number(3, 17, 1, false), 31701);
        assert_eq!(number(4, 2, 0, false), 40200);
        assert_eq!(number(3, 17, 1, true), 31800);
        assert_eq!(number(-1, 0, 0, false), 0);
    }
}
