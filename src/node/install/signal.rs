//! Telling an engine by a signal, found through its socket: for machines without systemd.
//!
//! dockerd reads its configuration again. containerd ends, and whatever watches over it starts it
//! again; where nothing does, it stays away, which is why this is done only on request.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::node::engine::Engine;
use crate::node::machine::Machine;

/// An engine that is just starting has no socket yet.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(5);

/// Why no signal was sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The engine has no use for one.
    #[error("{0} cannot be told by a signal: use --restart-mode systemd or none")]
    NotKnown(Engine),
    /// Nobody listens.
    #[error("cannot find {engine} through {}: {source}", socket.display())]
    Unreachable {
        /// The engine.
        engine: Engine,
        /// Its socket, on the machine.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Sends SIGHUP to the process at the engine's socket.
///
/// # Errors
/// There is no such process.
pub fn hang_up(
    engine: Engine,
    machine: &Machine,
    socket: Option<&Path>,
) -> Result<String, SignalError> {
    let usual = match engine {
        Engine::Docker => "/run/docker.sock",
        Engine::Containerd => "/run/containerd/containerd.sock",
        Engine::K3s | Engine::Rke2 => "/run/k3s/containerd/containerd.sock",
        Engine::Crio | Engine::Podman => return Err(SignalError::NotKnown(engine)),
    };
    let socket = socket.unwrap_or(Path::new(usual));
    let send = || {
        let stream = UnixStream::connect(machine.shown(socket))?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        kill_process(peer.pid, Signal::HUP)?;
        Ok(peer.pid.as_raw_nonzero())
    };
    let mut result = send();
    for _ in 1..ATTEMPTS {
        if result.is_ok() {
            break;
        }
        sleep(PAUSE);
        result = send();
    }
    let failed = |source| SignalError::Unreachable { engine, socket: socket.to_owned(), source };
    result.map(|pid| format!("sent SIGHUP to {engine}, process {pid}")).map_err(failed)
}
