//! Messages and addresses of a D-Bus peer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::message::{FIXED, decode, encode, rest_length};
use super::{Address, Call, Value};

/// A message from a peer.
pub fn message(data: &[u8]) {
    let length = data.first_chunk::<FIXED>().map(rest_length);
    let Ok(message) = decode(data) else { return };
    // Who reads from a socket must not wait for more than the message has.
    if let Some(length) = length {
        assert!(length.is_err() || length.is_ok_and(|rest| rest + FIXED <= data.len()));
    }
    for signature in ["", "s", "o", "u", "v", "su", "uos", "uoss"] {
        let Ok(mut body) = message.body(signature) else { continue };
        for letter in signature.chars() {
            let done = match letter {
                'u' => body.u32().map(drop),
                'v' => body.signature().map(drop),
                _ => body.text().map(drop),
            };
            if done.is_err() {
                break;
            }
        }
    }
    let _ = message.to_error().to_string();
}

/// What gpurun sends can be read by who gets it.
pub fn call(value: Value) {
    let signature = value.signature();
    let call = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "SetUnitProperties",
        body: vec![Value::Variant(Box::new(value)), Value::text("end")],
    };
    let bytes = encode(&call, 7).expect("what was parsed can be written");
    assert!(bytes.len().is_multiple_of(1) && !bytes.is_empty());
    let fixed = bytes.first_chunk::<FIXED>().expect("a header");
    assert_eq!(rest_length(fixed).expect("lengths") + FIXED, bytes.len());
    let message = decode(&bytes).expect("a message");
    assert_eq!(message.member, "SetUnitProperties");
    let mut body = message.body("vs").expect("these types");
    assert_eq!(body.signature().expect("a signature"), signature);
}

/// An address, as in `$DBUS_SESSION_BUS_ADDRESS`.
pub fn address(data: &[u8]) {
    let Ok(address) = Address::parse(OsStr::from_bytes(data)) else { return };
    let (key, name) = match &address {
        Address::Path(path) => ("path", path.as_os_str().as_bytes()),
        Address::Abstract(name) => ("abstract", name.as_slice()),
    };
    assert!(!name.is_empty() && name.len() <= data.len());
    let escaped: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
    let again = Address::parse(OsStr::new(&format!("unix:{key}={escaped}")));
    assert_eq!(again.expect("an address"), address);
}
