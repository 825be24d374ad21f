//! A program run under a pseudo-terminal, as a person at a keyboard would run it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Runs the command with a terminal of 100×40 as its stdin, stdout and stderr, types `input`,
/// and returns everything that appeared on the terminal, with the exit status. Kills it after
/// 20 s.
pub fn run(command: &mut Command, input: &str) -> io::Result<(String, ExitStatus)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = rustix::fs::open(
        name.as_c_str(),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    tcsetwinsize(&slave, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })?;
    let slave = File::from(slave);
    let mut child = command
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave))
        .spawn()?;
    // The command keeps copies of the slave; the master must see the end when the child ends.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());

    let mut master = File::from(master);
    let mut reader = master.try_clone()?;
    let output = std::thread::spawn(move || {
        let mut seen = Vec::new();
        // A pseudo-terminal whose last slave is closed reads EIO.
        let _ = reader.read_to_end(&mut seen);
        seen
    });
    master.write_all(input.as_bytes())?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let seen = output.join().map_err(|_| io::Error::other("the terminal's reader panicked"))?;
    Ok((String::from_utf8_lossy(&seen).into_owned(), status))
}
