//! `linux.netDevices`: interfaces of the host that become the container's
//! (runtime-spec, config-linux.md, "Network Devices").
//!
//! An interface keeps its attributes when it is moved, but loses its addresses; the permanent,
//! global ones are given back. It is moved home where the container comes to nothing, and not
//! afterwards: what happens to it when its network namespace ends is the kernel's rule. The netlink
//! messages are libcontainer's.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libcontainer::network::NetworkError;
use libcontainer::network::address::AddressClient;
use libcontainer::network::cidr::CidrAddress;
use libcontainer::network::link::LinkClient;
use libcontainer::network::network_device::dev_change_net_namespace;
use libcontainer::network::wrapper::create_network_client;
use nix::sched::{self, CloneFlags};
use oci_spec::runtime::LinuxNetDevice;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::log;
use crate::sys::net::{interface_flags, set_interface_flags};

/// The longest name of an interface (`IFNAMSIZ` without the end marker).
const LONGEST_NAME: usize = 15;
/// In a new name: a number that is free in the container.
const TEMPLATE: &str = "%d";
/// How many numbers are tried for a template.
const NUMBERS: u32 = 1 << 15;

/// An interface that cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum NetDeviceError {
    /// Without a namespace there is nowhere to go.
    #[error(
        "unable to move network devices without a NET namespace: list network in \
         linux.namespaces"
    )]
    NoNamespace,
    /// Only root may move an interface.
    #[error("network devices are not supported for rootless containers")]
    Rootless,
    /// A name that no interface can have.
    #[error(
        "invalid network device name {0:?}: use 1 to {LONGEST_NAME} bytes without '/', ':' and spaces"
    )]
    Name(String),
    /// Two interfaces would get one name.
    #[error("linux.netDevices gives the name {0:?} to two network devices")]
    Twice(String),
    /// The host has no such interface.
    #[error("network device {0:?} was not found on the host")]
    Missing(String),
    /// The container has one of that name.
    #[error(
        "network device {device:?} cannot become {name:?} in the container: a device of that \
         name already exists there; choose another linux.netDevices name"
    )]
    Exists {
        /// Its name on the host.
        device: String,
        /// Its name in the container.
        name: String,
    },
    /// Every network namespace has its own, which cannot leave it.
    #[error(
        "cannot move network device {0:?}: a loopback interface stays where it is; remove it from linux.netDevices"
    )]
    Loopback(String),
    /// The kernel refuses.
    #[error("cannot {doing} network device {device:?}: {reason}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// Its name on the host.
        device: String,
        /// The reason.
        reason: String,
    },
}

/// Checks what can be checked before anything exists.
///
/// # Errors
/// A name that no interface can have or that is given twice, no network namespace, no rights.
pub fn validate(
    devices: &HashMap<String, LinuxNetDevice>,
    has_namespace: bool,
    rootless: bool,
) -> Result<(), NetDeviceError> {
    if devices.is_empty() {
        return Ok(());
    }
    if !has_namespace {
        return Err(NetDeviceError::NoNamespace);
    }
    if rootless {
        return Err(NetDeviceError::Rootless);
    }
    let mut names: Vec<&str> = Vec::new();
    for (device, spec) in devices {
        let name = new_name(device, spec);
        let template = name.replacen(TEMPLATE, "", 1);
        for (text, whole) in [(device.as_str(), device), (&template, &name.to_owned())] {
            let template = text.len() != whole.len();
            if !is_name(text, template) || whole.len() > LONGEST_NAME {
                return Err(NetDeviceError::Name(whole.clone()));
            }
        }
        if names.contains(&name) && !name.contains(TEMPLATE) {
            return Err(NetDeviceError::Twice(name.to_owned()));
        }
        names.push(name);
    }
    Ok(())
}

/// The kernel's rule (`dev_valid_name`), and no `%` that would make a template.
fn is_name(name: &str, may_be_empty: bool) -> bool {
    (may_be_empty || !name.is_empty())
        && name != "."
        && name != ".."
        && !name.contains(['/', ':', '%', '\0'])
        && !name.contains(char::is_whitespace)
}

fn new_name<'a>(device: &'a str, spec: &'a LinuxNetDevice) -> &'a str {
    spec.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(device)
}

/// Interfaces that are in a container which is being made. With its network namespace most kinds of
/// interface end, and in one that it joins they would stay: so those that are not kept there are
/// brought home.
#[derive(Debug, Default)]
pub struct Moved(Vec<Away>);

impl Moved {
    /// Leaves them where they are.
    pub fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for away in self.0.drain(..).rev() {
            if let Err(error) = away.bring_home() {
                log::warn(error);
            }
        }
    }
}

/// An interface in another network namespace.
#[derive(Debug)]
struct Away {
    namespace: File,
    name: String,
    before: Before,
}

impl Away {
    fn bring_home(&self) -> Result<(), NetDeviceError> {
        let device = &self.before.device;
        let home = own_namespace(device)?;
        inside(&self.namespace, &home, device, || {
            let mut as_before = LinuxNetDevice::default();
            as_before.set_name(Some(device.clone()));
            dev_change_net_namespace(&self.name, home.as_raw_fd(), &as_before)
                .map_err(|err| netlink("bring home", device, &err))
        })?;
        self.before.restore()
    }
}

/// What an interface was at home.
#[derive(Debug)]
struct Before {
    device: String,
    flags: i32,
    addresses: Vec<CidrAddress>,
}

impl Before {
    /// Gives the interface at home what the way has taken from it: it may be what the machine is
    /// reached by.
    fn restore(&self) -> Result<(), NetDeviceError> {
        let device = &self.device;
        let fails = |err| refused("set up again", device, err);
        let index = index_of(device).map_err(fails)?;
        let index = index.ok_or_else(|| NetDeviceError::Missing(device.clone()))?;
        set_addresses(device, index, &self.addresses)?;
        if self.flags & libc::IFF_UP != 0 {
            let any = socket().map_err(fails)?;
            set_interface_flags(any, device, self.flags).map_err(fails)?;
        }
        Ok(())
    }
}

/// Moves `devices` into the network namespace of process `pid` and turns them on there. What has
/// been moved is entered in `moved`.
///
/// # Errors
/// The first one that cannot be moved.
pub fn move_into(
    devices: &HashMap<String, LinuxNetDevice>,
    pid: i32,
    moved: &mut Moved,
) -> Result<(), NetDeviceError> {
    // In an order that does not change from run to run: templates count up.
    let mut sorted: Vec<_> = devices.iter().collect();
    sorted.sort_by_key(|(device, _)| *device);
    for (device, spec) in sorted {
        let fails = |doing, err: std::io::Error| refused(doing, device, err);
        let home = own_namespace(device)?;
        let namespace = File::open(format!("/proc/{pid}/ns/net"))
            .map_err(|err| fails("open the container's network namespace for", err))?;
        let index = index_of(device).map_err(|err| fails("look for", err))?;
        let index = index.ok_or_else(|| NetDeviceError::Missing(device.clone()))?;
        let flags = flags_of(device).map_err(|err| fails("look at", err))?;
        if flags & libc::IFF_LOOPBACK != 0 {
            return Err(NetDeviceError::Loopback(device.clone()));
        }
        // Now: the move turns it off, and with that the kernel forgets the IPv6 addresses.
        let addresses = addresses_of(device, index)?;
        let before = Before { device: device.clone(), flags, addresses };
        let name = inside(&namespace, &home, device, || free_name(device, new_name(device, spec)))?;
        let mut renamed = spec.clone();
        renamed.set_name(Some(name.clone()));
        if let Err(err) = dev_change_net_namespace(device, namespace.as_raw_fd(), &renamed) {
            let _ = before.restore();
            return Err(netlink("move", device, &err));
        }
        let away = Away { namespace, name, before };
        let set_up = inside(&away.namespace, &home, device, || {
            let index = index_of(&away.name).map_err(|err| fails("find the moved", err))?;
            let index = index.ok_or_else(|| NetDeviceError::Missing(away.name.clone()))?;
            set_addresses(device, index, &away.before.addresses)?;
            let failed = |err: NetworkError| netlink("set up", device, &err);
            let mut client = LinkClient::new(create_network_client()).map_err(failed)?;
            client.set_up(index).map_err(failed)
        });
        moved.0.push(away);
        set_up?;
    }
    Ok(())
}

fn own_namespace(device: &str) -> Result<File, NetDeviceError> {
    File::open("/proc/self/ns/net")
        .map_err(|err| refused("find the way back from the container's network for", device, err))
}

/// Gives an interface of the caller's network namespace those of the addresses that it does not
/// have.
fn set_addresses(
    device: &str,
    index: u32,
    addresses: &[CidrAddress],
) -> Result<(), NetDeviceError> {
    let failed = |err: NetworkError| netlink("set up", device, &err);
    let mut client = AddressClient::new(create_network_client()).map_err(failed)?;
    for address in addresses {
        match client.add(index, address.address, address.prefix_len) {
            Err(err) if errno(&err) == Some(libc::EEXIST) => {}
            done => done.map_err(failed)?,
        }
    }
    Ok(())
}

/// The addresses that move along: permanent ones with global scope.
fn addresses_of(device: &str, index: u32) -> Result<Vec<CidrAddress>, NetDeviceError> {
    let failed = |err: NetworkError| netlink("list the addresses of", device, &err);
    let mut client = AddressClient::new(create_network_client()).map_err(failed)?;
    let all = client.get_by_index(index).map_err(failed)?;
    let moves = all.iter().filter(|address| {
        u8::from(address.header.scope) == libc::RT_SCOPE_UNIVERSE
            && u32::from(address.header.flags.bits()) & libc::IFA_F_PERMANENT != 0
    });
    Ok(moves.map(CidrAddress::from).collect())
}

/// Runs `then` in another network namespace: the sockets that it makes belong there.
fn inside<T>(
    there: &File,
    home: &File,
    device: &str,
    then: impl FnOnce() -> Result<T, NetDeviceError>,
) -> Result<T, NetDeviceError> {
    let enter = |namespace: &File, doing| {
        sched::setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|err| refused(doing, device, err.into()))
    };
    enter(there, "enter the container's network for")?;
    let done = then();
    enter(home, "return from the container's network for")?;
    done
}

/// The name that an interface gets in the caller's network namespace: `wanted`, or its template
/// with the first free number.
fn free_name(device: &str, wanted: &str) -> Result<String, NetDeviceError> {
    let taken = |name: &str| -> Result<bool, NetDeviceError> {
        Ok(index_of(name).map_err(|err| refused("look for the name of", device, err))?.is_some())
    };
    let exists = || NetDeviceError::Exists { device: device.to_owned(), name: wanted.to_owned() };
    if !wanted.contains(TEMPLATE) {
        return if taken(wanted)? { Err(exists()) } else { Ok(wanted.to_owned()) };
    }
    for number in 0..NUMBERS {
        let name = wanted.replacen(TEMPLATE, &number.to_string(), 1);
        if name.len() <= LONGEST_NAME && !taken(&name)? {
            return Ok(name);
        }
    }
    Err(exists())
}

/// The number of an interface in the caller's network namespace.
fn flags_of(name: &str) -> std::io::Result<i32> {
    interface_flags(socket()?, name)
}

/// Any socket will do: it stands for its network namespace.
fn socket() -> std::io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

fn index_of(name: &str) -> std::io::Result<Option<u32>> {
    match name_to_index(socket()?.as_fd(), name) {
        Ok(index) => Ok(Some(index)),
        Err(rustix::io::Errno::NODEV) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn refused(doing: &'static str, device: &str, err: std::io::Error) -> NetDeviceError {
    NetDeviceError::Refused { doing, device: device.to_owned(), reason: err.to_string() }
}

/// libcontainer reports the kernel's answer as a number in a text: `Netlink error: -16`.
fn errno(err: &NetworkError) -> Option<i32> {
    let text = err.to_string();
    let number = text.rsplit([' ', '=']).next().and_then(|number| number.parse::<i32>().ok());
    number.filter(|number| *number < 0).and_then(i32::checked_neg)
}

fn netlink(doing: &'static str, device: &str, err: &NetworkError) -> NetDeviceError {
    match errno(err) {
        Some(errno) => refused(doing, device, std::io::Error::from_raw_os_error(errno)),
        None => {
            let reason = err.to_string();
            NetDeviceError::Refused { doing, device: device.to_owned(), reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: serde_json::Value) -> Result<(), NetDeviceError> {
        validate(&serde_json::from_value(json).expect("devices"), true, false)
    }

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for good in ["eth0", "container_eth0", "eth%d", "%d", "ä"] {
            check(serde_json::json!({"eth0": {"name": good}})).expect(good);
        }
        for bad in ["a/b", "a b", "a:b", ".", "..", "sixteen-bytes-xx", "%d%d", "%s", "a\tb"] {
            assert!(check(serde_json::json!({"eth0": {"name": bad}})).is_err(), "{bad:?}");
        }
        assert!(check(serde_json::json!({"": {}})).is_err());
        assert!(check(serde_json::json!({"eth%d": {}})).is_err());
        let twice = serde_json::json!({"a": {"name": "x"}, "b": {"name": "x"}});
        assert!(matches!(check(twice), Err(NetDeviceError::Twice(_))));
        check(serde_json::json!({"a": {"name": "x%d"}, "b": {"name": "x%d"}})).expect("numbers");
    }

    #[test]
    fn no_network_namespace_and_no_rights_are_refused_but_not_for_nothing() {
        let one = serde_json::from_value(serde_json::json!({"eth0": {}})).expect("devices");
        assert!(matches!(validate(&one, false, false), Err(NetDeviceError::NoNamespace)));
        assert!(matches!(validate(&one, true, true), Err(NetDeviceError::Rootless)));
        validate(&HashMap::new(), false, true).expect("nothing is asked for");
    }

    #[test]
    fn the_kernels_answer_is_in_words() {
        let err = NetworkError::IO(std::io::Error::other("Netlink error: -16"));
        assert!(netlink("move", "eth0", &err).to_string().contains("busy"));
    }
}
