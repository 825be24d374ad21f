//! A message: its header, and reading what others sent.
//!
//! Everything read here comes from another process: each length is checked against what is there.

use super::value::{Writer, alignment};
use super::{Call, DbusError, Value};

/// More than any answer or signal of systemd that gpurun reads.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// The largest message that D-Bus allows.
const MAX_SENT: usize = 128 << 20;
/// What has a fixed size at the start: the fixed fields and the length of the others.
pub(super) const FIXED: usize = 16;
/// How deep types may be nested in a header field that is skipped.
const MAX_DEPTH: u32 = 8;

/// Header field codes (D-Bus specification, "Header fields").
mod field {
    pub const PATH: u8 = 1;
    pub const INTERFACE: u8 = 2;
    pub const MEMBER: u8 = 3;
    pub const ERROR_NAME: u8 = 4;
    pub const REPLY_SERIAL: u8 = 5;
    pub const DESTINATION: u8 = 6;
    pub const SENDER: u8 = 7;
    pub const SIGNATURE: u8 = 8;
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody calls us, or a kind that this version of D-Bus does not know.
    Other,
    /// The answer to a call.
    Return,
    /// The answer to a call that failed.
    Error,
    /// A signal.
    Signal,
}

/// A message that was received.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The call that it answers.
    pub reply_serial: Option<u32>,
    /// Signals: the interface.
    pub interface: String,
    /// Signals: the name.
    pub member: String,
    /// Errors: the name.
    pub error_name: String,
    /// The connection that sent it, as the bus says; empty where there is no bus to say it.
    pub sender: String,
    /// The types of what it carries.
    signature: String,
    body: Vec<u8>,
    little: bool,
}

/// The bytes of a method call.
pub(super) fn encode(call: &Call<'_>, serial: u32) -> Result<Vec<u8>, DbusError> {
    let mut body = Writer::default();
    call.body.iter().try_for_each(|value| body.value(value))?;
    let mut fields = vec![
        (field::PATH, Value::Path(call.path.to_owned())),
        (field::INTERFACE, Value::text(call.interface)),
        (field::MEMBER, Value::text(call.member)),
        (field::DESTINATION, Value::text(call.destination)),
    ];
    if !call.body.is_empty() {
        let signature = call.body.iter().map(Value::signature).collect();
        fields.push((field::SIGNATURE, Value::Signature(signature)));
    }
    let fields = fields
        .into_iter()
        .map(|(code, value)| {
            Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
        })
        .collect();
    let mut message = Writer::default();
    // Little endian, method call, no flags, version 1.
    message.bytes.extend([b'l', 1, 0, 1]);
    let length = body.bytes.len();
    message.u32(u32::try_from(length).map_err(|_| DbusError::TooLarge(length))?);
    message.u32(serial);
    message.value(&Value::Array("(yv)".to_owned(), fields))?;
    message.align(8);
    message.bytes.extend(body.bytes);
    match message.bytes.len() {
        length if length > MAX_SENT => Err(DbusError::TooLarge(length)),
        _ => Ok(message.bytes),
    }
}

/// How many bytes follow the fixed part of a message. More than [`MAX_MESSAGE`] are none of
/// systemd's: whoever is on a bus may send a signal to anybody there.
pub(super) fn rest_length(fixed: &[u8; FIXED]) -> Result<usize, DbusError> {
    let little = is_little(fixed)?;
    let mut reader = Reader { bytes: fixed, position: 4, little };
    let body = reader.u32()? as usize;
    reader.u32()?;
    let fields = reader.u32()? as usize;
    if body > MAX_SENT || fields > MAX_SENT {
        return Err(DbusError::Protocol("a message is too long"));
    }
    Ok(fields.next_multiple_of(8) + body)
}

fn is_little(fixed: &[u8]) -> Result<bool, DbusError> {
    match fixed.first() {
        Some(b'l') => Ok(true),
        Some(b'B') => Ok(false),
        _ => Err(DbusError::Protocol("a message has an unknown byte order")),
    }
}

/// Parses a whole message.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, DbusError> {
    let little = is_little(bytes)?;
    let mut reader = Reader { bytes, position: 1, little };
    let kind = match reader.byte()? {
        0 => return Err(DbusError::Protocol("a message has no type")),
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    reader.byte()?;
    if reader.byte()? != 1 {
        return Err(DbusError::Protocol("a message is of another version of D-Bus"));
    }
    let body_length = reader.u32()? as usize;
    reader.u32()?;
    let fields_length = reader.u32()? as usize;
    let end =
        reader.position.checked_add(fields_length).filter(|end| *end <= bytes.len()).ok_or(CUT)?;
    let mut message = Message {
        kind,
        reply_serial: None,
        interface: String::new(),
        member: String::new(),
        error_name: String::new(),
        sender: String::new(),
        signature: String::new(),
        body: Vec::new(),
        little,
    };
    while reader.position < end {
        reader.align(8)?;
        let code = reader.byte()?;
        let signature = reader.signature()?;
        match (code, signature.as_str()) {
            (field::INTERFACE, "s") => message.interface = reader.text()?,
            (field::MEMBER, "s") => message.member = reader.text()?,
            (field::ERROR_NAME, "s") => message.error_name = reader.text()?,
            (field::REPLY_SERIAL, "u") => message.reply_serial = Some(reader.u32()?),
            (field::SENDER, "s") => message.sender = reader.text()?,
            (field::SIGNATURE, "g") => message.signature = reader.signature()?,
            (field::PATH | field::DESTINATION, _) | (9.., _) => {
                reader.skip(&signature, 0)?;
            }
            _ => return Err(DbusError::Protocol("a header field has the wrong type")),
        }
    }
    reader.align(8)?;
    message.body = reader.take(body_length)?.to_vec();
    Ok(message)
}

const CUT: DbusError = DbusError::Protocol("a message ends too early");

impl Message {
    /// What it carries, which has to be of these types.
    ///
    /// # Errors
    /// It is of others.
    pub fn body(&self, signature: &str) -> Result<Reader<'_>, DbusError> {
        if self.signature != signature {
            return Err(DbusError::Protocol("a message carries something else than it should"));
        }
        Ok(Reader { bytes: &self.body, position: 0, little: self.little })
    }

    /// How long what it carries is.
    pub(super) fn body_length(&self) -> usize {
        self.body.len()
    }

    /// The error that an answer of that kind tells.
    pub(super) fn to_error(&self) -> DbusError {
        let mut reader = Reader { bytes: &self.body, position: 0, little: self.little };
        let message = match self.signature.starts_with('s') {
            true => reader.text().unwrap_or_default(),
            false => String::new(),
        };
        DbusError::Answer { name: self.error_name.clone(), message }
    }
}

/// Reads values one after the other.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    little: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DbusError> {
        let end = self.position.checked_add(count).ok_or(CUT)?;
        let taken = self.bytes.get(self.position..end).ok_or(CUT)?;
        self.position = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), DbusError> {
        self.take(self.position.next_multiple_of(to) - self.position).map(drop)
    }

    fn byte(&mut self) -> Result<u8, DbusError> {
        self.take(1)?.first().copied().ok_or(CUT)
    }

    /// A `u`.
    ///
    /// # Errors
    /// The message ends before it.
    pub fn u32(&mut self) -> Result<u32, DbusError> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| CUT)?;
        Ok(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// An `s` or `o`.
    ///
    /// # Errors
    /// The message ends before it, or it is not UTF-8.
    pub fn text(&mut self) -> Result<String, DbusError> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    /// A `g`.
    ///
    /// # Errors
    /// As [`Reader::text`].
    pub fn signature(&mut self) -> Result<String, DbusError> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<String, DbusError> {
        let text = self.take(length)?;
        if self.byte()? != 0 {
            return Err(DbusError::Protocol("a text does not end with NUL"));
        }
        String::from_utf8(text.to_vec()).map_err(|_| DbusError::Protocol("a text is not UTF-8"))
    }

    /// Passes over a header field that gpurun has no use for.
    fn skip(&mut self, signature: &str, depth: u32) -> Result<(), DbusError> {
        match signature.as_bytes() {
            [b's' | b'o'] => self.text().map(drop),
            [b'g'] => self.signature().map(drop),
            [b'v'] if depth < MAX_DEPTH => {
                let inside = self.signature()?;
                self.skip(&inside, depth + 1)
            }
            [b'a', item @ ..] if !item.is_empty() => {
                let length = self.u32()? as usize;
                let item = signature.get(1..).unwrap_or_default();
                self.align(alignment(item))?;
                self.take(length).map(drop)
            }
            [b'y'] => self.byte().map(drop),
            [b'b' | b'i' | b'u' | b'h'] => self.u32().map(drop),
            [b'n' | b'q'] => self.align(2).and_then(|()| self.take(2).map(drop)),
            [b'x' | b't' | b'd'] => self.align(8).and_then(|()| self.take(8).map(drop)),
            _ => Err(DbusError::Protocol("a header field has an unknown type")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call<'static> {
        Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "StopUnit",
            body: vec![Value::text("x.scope"), Value::U32(7)],
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let bytes = encode(&call(), 9).unwrap();
        let fixed: &[u8; FIXED] = bytes.first_chunk().unwrap();
        assert_eq!(rest_length(fixed).unwrap() + FIXED, bytes.len());
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (Kind::Other, "StopUnit"));
        let mut body = message.body("su").unwrap();
        assert_eq!((body.text().unwrap().as_str(), body.u32().unwrap()), ("x.scope", 7));
        assert!(message.body("s").is_err());
    }

    #[test]
    fn a_message_of_a_big_endian_peer_is_understood() {
        let mut bytes = vec![b'B', 3, 0, 1, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 15];
        bytes.extend([5, 1, b'u', 0, 0, 0, 0, 3, 8, 1, b'g', 0, 1, b's', 0, 0]);
        bytes.extend([0, 0, 0, 3, b'n', b'o', b'!', 0]);
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_serial), (Kind::Error, Some(3)));
        assert!(message.to_error().to_string().starts_with("no!"));
    }

    #[test]
    fn a_message_that_lies_about_its_lengths_is_an_error() {
        let good = encode(&call(), 1).unwrap();
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err(), "{cut}");
        }
        for place in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[place] = value;
                // Any answer but a panic.
                let _ = decode(&bad).and_then(|it| it.body("su").and_then(|mut it| it.text()));
                let _ = bad.first_chunk().map(rest_length);
            }
        }
        let huge = [b'l', 1, 0, 1, 255, 255, 255, 255, 1, 0, 0, 0, 255, 255, 255, 255];
        assert!(rest_length(&huge).is_err());
    }
}
