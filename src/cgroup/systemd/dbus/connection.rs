//! The socket: authentication, calls, signals, time limits.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::message::{self, FIXED, Kind, MAX_MESSAGE};
use super::{Address, DbusError, Message, Value};

/// The longest line of the authentication.
const MAX_LINE: usize = 1024;
/// How many signals are kept that arrived before the answer to a call.
const MAX_EARLY: usize = 1024;
/// The longest of them: some names and a number.
const MAX_EARLY_LENGTH: usize = 4096;

/// When waiting ends.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So much later than now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether that was before now.
    #[must_use]
    pub fn is_over(self) -> bool {
        self.left().is_none()
    }

    /// What is left; `None`: nothing. (A socket takes a time of 0 for "for ever".)
    fn left(self) -> Option<Duration> {
        Some(self.0.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

/// A method call.
#[derive(Debug)]
pub struct Call<'a> {
    /// The program's name on the bus.
    pub destination: &'a str,
    /// The object in it.
    pub path: &'a str,
    /// The interface of the object.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// The arguments.
    pub body: Vec<Value>,
}

/// Who the caller says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// This user.
    User(u32),
    /// Whoever the kernel says is on the other end: in a user namespace the caller's own number
    /// means nothing to the bus.
    Kernel,
}

/// A connection to a bus, or straight to a program that speaks D-Bus.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    serial: u32,
    early: VecDeque<Message>,
    /// The beginning of a message whose rest had not come when a time limit was over.
    begun: Vec<u8>,
    /// So much is still to come of a message that is too long to be read.
    passing: usize,
}

impl Connection {
    /// Connects and authenticates; the caller says `Hello` where there is a bus.
    ///
    /// # Errors
    /// [`DbusError::Connect`], [`DbusError::Refused`], [`DbusError::Timeout`].
    pub fn open(
        address: &Address,
        identity: Identity,
        deadline: Deadline,
    ) -> Result<Self, DbusError> {
        let stream = address
            .connect()
            .map_err(|source| DbusError::Connect { address: address.to_string(), source })?;
        let mut connection = Self::on(stream);
        connection.authenticate(address, identity, deadline)?;
        Ok(connection)
    }

    /// A connection that is made already, with somebody who does not ask who we are.
    pub(in crate::cgroup::systemd) fn on(stream: UnixStream) -> Self {
        Self { stream, serial: 0, early: VecDeque::new(), begun: Vec::new(), passing: 0 }
    }

    /// SASL with the one mechanism `EXTERNAL`: the kernel tells the other side who we are.
    ///
    /// All of it is said at once, as systemd's own client does. A `BEGIN` that waits for the answer
    /// may be read together with the first call, which systemd's private socket then forgets.
    fn authenticate(
        &mut self,
        address: &Address,
        identity: Identity,
        deadline: Deadline,
    ) -> Result<(), DbusError> {
        let first = match identity {
            // The number's digits in hexadecimal ASCII.
            Identity::User(uid) => {
                let digits: String =
                    uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
                format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n")
            }
            Identity::Kernel => "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_owned(),
        };
        self.send(first.as_bytes(), "the authentication", deadline)?;
        let mut answer = self.line(deadline)?;
        if identity == Identity::Kernel && answer == "DATA" {
            answer = self.line(deadline)?;
        }
        if !answer.starts_with("OK") {
            return Err(DbusError::Refused { address: address.to_string(), answer });
        }
        Ok(())
    }

    /// A line of the authentication. Nothing comes after the last one until we call something.
    fn line(&mut self, deadline: Deadline) -> Result<String, DbusError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() >= MAX_LINE {
                return Err(DbusError::Protocol("a line of the authentication is too long"));
            }
            let mut byte = [0];
            self.receive(&mut byte, "the authentication", deadline)?;
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// [`DbusError::Answer`] when the method failed; whatever happens to the connection.
    pub fn call(&mut self, call: &Call<'_>, deadline: Deadline) -> Result<Message, DbusError> {
        self.serial = self.serial.checked_add(1).ok_or(DbusError::Protocol("too many calls"))?;
        let serial = self.serial;
        self.send(&message::encode(call, serial)?, call.member, deadline)?;
        loop {
            let message = self.next(call.member, deadline)?;
            match message.kind {
                Kind::Return if message.reply_serial == Some(serial) => return Ok(message),
                Kind::Error if message.reply_serial == Some(serial) => {
                    return Err(message.to_error());
                }
                Kind::Signal
                    if self.early.len() < MAX_EARLY
                        && message.body_length() <= MAX_EARLY_LENGTH =>
                {
                    self.early.push_back(message);
                }
                _ => {}
            }
        }
    }

    /// Waits for a signal that `wanted` makes something of; those that came while a call was
    /// answered are first.
    ///
    /// # Errors
    /// [`DbusError::Timeout`] with `what` in it; whatever happens to the connection.
    pub fn signal<T>(
        &mut self,
        what: &str,
        deadline: Deadline,
        mut wanted: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, DbusError> {
        while let Some(message) = self.early.pop_front() {
            if let Some(found) = wanted(&message) {
                return Ok(found);
            }
        }
        loop {
            let message = self.next(what, deadline)?;
            if message.kind == Kind::Signal
                && let Some(found) = wanted(&message)
            {
                return Ok(found);
            }
        }
    }

    /// The next message. One that is half there when the time is over stays in `begun`, so that
    /// whoever waits again gets it whole. What is too long is passed over: anybody may have sent it.
    fn next(&mut self, what: &str, deadline: Deadline) -> Result<Message, DbusError> {
        loop {
            self.pass(what, deadline)?;
            self.fill(FIXED, what, deadline)?;
            let fixed =
                self.begun.first_chunk().ok_or(DbusError::Protocol("a message is cut off"))?;
            let rest = message::rest_length(fixed)?;
            if rest > MAX_MESSAGE {
                self.begun.clear();
                self.passing = rest;
                continue;
            }
            self.fill(FIXED + rest, what, deadline)?;
            return message::decode(&std::mem::take(&mut self.begun));
        }
    }

    /// Reads what is left of a message that is not kept.
    fn pass(&mut self, what: &str, deadline: Deadline) -> Result<(), DbusError> {
        let mut chunk = [0; 4096];
        while self.passing > 0 {
            let room = chunk.get_mut(..self.passing.min(4096)).unwrap_or_default();
            self.passing -= self.receive(room, what, deadline)?;
        }
        Ok(())
    }

    /// Reads until `begun` has this length.
    fn fill(&mut self, length: usize, what: &str, deadline: Deadline) -> Result<(), DbusError> {
        let mut chunk = [0; 4096];
        while let Some(missing) = length.checked_sub(self.begun.len()).filter(|left| *left > 0) {
            let room = chunk.get_mut(..missing.min(4096)).unwrap_or_default();
            let count = self.receive(room, what, deadline)?;
            self.begun.extend(room.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    /// Reads what there is, at least a byte.
    fn receive(
        &mut self,
        room: &mut [u8],
        what: &str,
        deadline: Deadline,
    ) -> Result<usize, DbusError> {
        loop {
            let left = deadline.left().ok_or_else(|| DbusError::Timeout(what.to_owned()))?;
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(room) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => return Ok(count),
                Err(err) if is_passing(&err) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], what: &str, deadline: Deadline) -> Result<(), DbusError> {
        while !bytes.is_empty() {
            let left = deadline.left().ok_or_else(|| DbusError::Timeout(what.to_owned()))?;
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(err) if is_passing(&err) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }
}

/// A signal, or the time limit, which is looked at again.
fn is_passing(err: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(err.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::on(ours), theirs)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(50))
    }

    fn call() -> Call<'static> {
        Call { destination: "a.b", path: "/", interface: "a.b", member: "Ask", body: Vec::new() }
    }

    #[test]
    fn a_peer_that_says_nothing_is_an_error_in_time() {
        let (mut connection, _silent) = pair();
        let error = connection.call(&call(), soon()).unwrap_err();
        assert_eq!(error.to_string(), "no answer to Ask in time");
    }

    #[test]
    fn a_peer_that_goes_or_talks_nonsense_is_an_error() {
        let (mut connection, gone) = pair();
        drop(gone);
        assert!(matches!(connection.call(&call(), soon()), Err(DbusError::Broken(_))));
        let (mut connection, mut peer) = pair();
        peer.write_all(&[b'x'; 64]).unwrap();
        assert!(matches!(connection.call(&call(), soon()), Err(DbusError::Protocol(_))));
    }

    #[test]
    fn a_message_that_comes_in_pieces_is_whole_after_a_time_limit_in_between() {
        let (mut connection, mut peer) = pair();
        // Any message will do: the peer's own call.
        let bytes = message::encode(&call(), 7).unwrap();
        for cut in [1, FIXED, FIXED + 3, bytes.len() - 1] {
            let (first, second) = bytes.split_at(cut);
            peer.write_all(first).unwrap();
            let early = connection.next("it", Deadline::after(Duration::from_millis(5)));
            assert!(matches!(early, Err(DbusError::Timeout(_))), "cut at {cut}");
            peer.write_all(second).unwrap();
            assert_eq!(connection.next("it", soon()).unwrap().kind, Kind::Other, "cut at {cut}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_passed_over() {
        let (mut connection, mut peer) = pair();
        let long = 5_u32 << 20;
        let mut bytes = vec![b'l', 4, 0, 1];
        for number in [long, 1, 0] {
            bytes.extend(number.to_le_bytes());
        }
        let writer = std::thread::spawn(move || {
            peer.write_all(&bytes).unwrap();
            for _ in 0..long / 4096 {
                peer.write_all(&[0; 4096]).unwrap();
            }
            peer.write_all(&message::encode(&call(), 7).unwrap()).unwrap();
            peer
        });
        let patience = Deadline::after(Duration::from_secs(20));
        assert_eq!(connection.next("it", patience).unwrap().kind, Kind::Other);
        drop(writer.join());
    }

    #[test]
    fn who_we_are_is_left_to_the_kernel_in_a_user_namespace() {
        let address = Address::Path("/bus".into());
        let (mut connection, mut peer) = pair();
        peer.write_all(b"DATA\r\nOK 1234\r\n").unwrap();
        connection.authenticate(&address, Identity::Kernel, soon()).unwrap();
        let mut said = [0; 64];
        let count = peer.read(&mut said).unwrap();
        assert_eq!(&said[..count], b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        let (mut connection, mut peer) = pair();
        peer.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        let error = connection.authenticate(&address, Identity::User(1000), soon()).unwrap_err();
        assert_eq!(error.to_string(), "/bus refuses the caller: REJECTED EXTERNAL");
        let count = peer.read(&mut said).unwrap();
        assert_eq!(&said[..count], b"\0AUTH EXTERNAL 31303030\r\nBEGIN\r\n");
    }
}
