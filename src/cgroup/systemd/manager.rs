//! systemd's own D-Bus methods ([org.freedesktop.systemd1]).
//!
//! [org.freedesktop.systemd1]: https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Instance;
use super::dbus::{Address, Call, Connection, DbusError, Deadline, Identity, Message, Value};

/// How long systemd may take for one request; it may be busy with a reload of thousands of units.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the system's bus listens unless `$DBUS_SYSTEM_BUS_ADDRESS` says otherwise.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// Where systemd itself listens, for root, also before there is a bus.
const PRIVATE: &str = "/run/systemd/private";

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const START: &str = "StartTransientUnit";
/// There is no such unit (any more).
pub(super) const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// There is no such job (any more).
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";
const BUS: &str = "org.freedesktop.DBus";

/// A property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Such as `MemoryMax`.
    pub(super) name: String,
    /// Its value, of the type that systemd expects.
    pub(super) value: Value,
}

impl Property {
    pub(super) fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value }
    }

    fn into_value(self) -> Value {
        Value::Struct(vec![Value::Text(self.name), Value::Variant(Box::new(self.value))])
    }
}

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Manager {
    bus: Connection,
}

impl Manager {
    /// Connects through the bus, and where there is none straight to systemd.
    pub fn connect(instance: Instance) -> Result<Self, DbusError> {
        let deadline = Deadline::after(TIMEOUT);
        let identity = match crate::sys::process::in_user_namespace().unwrap_or(true) {
            true => Identity::Kernel,
            false => Identity::User(rustix::process::geteuid().as_raw()),
        };
        let (address, private) = match instance {
            Instance::System => (system_bus()?, Some(PathBuf::from(PRIVATE))),
            Instance::User => (user_bus()?, runtime_dir().map(|dir| dir.join("systemd/private"))),
        };
        let direct = |first: DbusError| match private {
            Some(path) => Connection::open(&Address::Path(path), identity, deadline)
                // Which of the two has to be there is the bus.
                .map_err(|_| first),
            None => Err(first),
        };
        let bus = match Connection::open(&address, identity, deadline) {
            Ok(mut bus) => {
                hello(&mut bus, deadline)?;
                bus
            }
            Err(error @ DbusError::Connect { .. }) => direct(error)?,
            Err(error) => return Err(error),
        };
        Ok(Self { bus })
    }

    /// The number at the start of systemd's version, such as 252.
    pub fn version(&mut self) -> Result<u32, DbusError> {
        parse_version(&self.property("Version")?)
            .ok_or(DbusError::Protocol("systemd's version does not start with a number"))
    }

    /// The cgroup of systemd itself, below which its slices are; "" for the root.
    pub fn control_group(&mut self) -> Result<String, DbusError> {
        let path = self.property("ControlGroup")?;
        // It becomes a path that is written to.
        match path.split('/').any(|part| part == "..") {
            true => Err(DbusError::Protocol("systemd's cgroup has a `..` in it")),
            false => Ok(path.trim_end_matches('/').to_owned()),
        }
    }

    /// Makes and starts a unit that has no file; comes back when it runs.
    pub fn start_transient(
        &mut self,
        unit: &str,
        properties: Vec<Property>,
    ) -> Result<(), DbusError> {
        let properties = properties.into_iter().map(Property::into_value).collect();
        let rest = vec![
            Value::text("replace"),
            Value::Array("(sv)".to_owned(), properties),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        self.job(START, unit, rest)
    }

    /// Stops a unit; comes back when that is done.
    pub fn stop(&mut self, unit: &str) -> Result<(), DbusError> {
        self.job("StopUnit", unit, vec![Value::text("replace")])
    }

    /// Lets systemd forget a unit that failed.
    pub fn reset_failed(&mut self, unit: &str) -> Result<(), DbusError> {
        self.call("ResetFailedUnit", vec![Value::text(unit)]).map(drop)
    }

    /// Changes properties of a unit that runs, until the next boot at most.
    pub fn set_properties(
        &mut self,
        unit: &str,
        properties: Vec<Property>,
    ) -> Result<(), DbusError> {
        let properties = properties.into_iter().map(Property::into_value).collect();
        let body =
            vec![Value::text(unit), Value::Bool(true), Value::Array("(sv)".to_owned(), properties)];
        self.call("SetUnitProperties", body).map(drop)
    }

    /// Moves a process into the unit's cgroup, or into the one at `below` in it.
    pub fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<(), DbusError> {
        let pids = Value::Array("u".to_owned(), vec![Value::U32(pid)]);
        let body = vec![Value::text(unit), Value::text(below), pids];
        self.call("AttachProcessesToUnit", body).map(drop)
    }

    fn property(&mut self, name: &str) -> Result<String, DbusError> {
        self.property_of(OBJECT, MANAGER, name)
    }

    fn property_of(
        &mut self,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Result<String, DbusError> {
        let call = Call {
            destination: SYSTEMD,
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            body: vec![Value::text(interface), Value::text(name)],
        };
        let answer = self.bus.call(&call, Deadline::after(TIMEOUT))?;
        let mut body = answer.body("v")?;
        match body.signature()?.as_str() {
            "s" => body.text(),
            _ => Err(DbusError::Protocol("a property of systemd is no text")),
        }
    }

    /// The slice that a scope is in; `None`: there is no such unit.
    pub fn slice(&mut self, unit: &str) -> Result<Option<String>, DbusError> {
        self.unit_property(unit, "Scope", "Slice")
    }

    /// `active`, `inactive`, `failed` and so on; `None`: there is no such unit.
    fn active_state(&mut self, unit: &str) -> Result<Option<String>, DbusError> {
        self.unit_property(unit, "Unit", "ActiveState")
    }

    fn unit_property(
        &mut self,
        unit: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, DbusError> {
        let object = match self.call("GetUnit", vec![Value::text(unit)]) {
            Err(err) if err.is(NO_SUCH_UNIT) => return Ok(None),
            answer => answer?.body("o")?.text()?,
        };
        match self.property_of(&object, &format!("{SYSTEMD}.{kind}"), name) {
            Err(err) if err.is(NO_SUCH_UNIT) || err.is(UNKNOWN_OBJECT) => Ok(None),
            value => value.map(Some),
        }
    }

    fn call(&mut self, member: &str, body: Vec<Value>) -> Result<Message, DbusError> {
        let call = Call { destination: SYSTEMD, path: OBJECT, interface: MANAGER, member, body };
        self.bus.call(&call, Deadline::after(TIMEOUT))
    }

    /// A method that starts a job for a unit, and the job's end. systemd tells whoever started a
    /// job of its end (`Subscribe` would tell of all others as well); but not when it executes
    /// itself anew meanwhile, and not always on its private socket: then the job is looked for.
    fn job(&mut self, member: &str, unit: &str, rest: Vec<Value>) -> Result<(), DbusError> {
        let mut body = vec![Value::text(unit)];
        body.extend(rest);
        let answer = self.call(member, body)?;
        let job = answer.body("o")?.text()?;
        let deadline = Deadline::after(TIMEOUT);
        let mut pause = Duration::from_millis(50);
        while !deadline.is_over() {
            let wanted = |signal: &Message| {
                // Whoever is on the bus may say that, to us alone; the sender is the bus's word.
                let ours = signal.member == "JobRemoved"
                    && signal.interface == MANAGER
                    && signal.sender == answer.sender;
                ours.then(|| removed(signal)).flatten().filter(|(path, _)| *path == job)
            };
            match self.bus.signal(member, Deadline::after(pause), wanted) {
                Ok((_, result)) if result == "done" => return Ok(()),
                Ok((_, result)) => return Err(failed_job(&result)),
                Err(DbusError::Timeout(_)) => {}
                Err(err) => return Err(err),
            }
            pause = (pause * 2).min(Duration::from_secs(2));
            match self.property_of(&job, "org.freedesktop.systemd1.Job", "State") {
                Err(err) if err.is(UNKNOWN_OBJECT) => {}
                Err(err) => return Err(err),
                // It waits, or is at work.
                Ok(_) => continue,
            }
            let state = self.active_state(unit)?;
            let runs = state.as_deref() == Some("active");
            return match runs == (member == START) {
                true => Ok(()),
                false => Err(failed_job(state.as_deref().unwrap_or("gone"))),
            };
        }
        Err(DbusError::Timeout(member.to_owned()))
    }
}

fn failed_job(result: &str) -> DbusError {
    DbusError::Answer {
        name: format!("result: {result}"),
        message: "the unit's job did not succeed; see the journal".to_owned(),
    }
}

/// The job and its result in a `JobRemoved(u id, o job, s unit, s result)`.
fn removed(signal: &Message) -> Option<(String, String)> {
    let mut body = signal.body("uoss").ok()?;
    body.u32().ok()?;
    let job = body.text().ok()?;
    body.text().ok()?;
    Some((job, body.text().ok()?))
}

/// Joins the bus, and asks for the ends of jobs.
fn hello(bus: &mut Connection, deadline: Deadline) -> Result<(), DbusError> {
    let rule = format!(
        "type='signal',sender='{SYSTEMD}',path='{OBJECT}',interface='{MANAGER}',\
         member='JobRemoved'"
    );
    for (member, body) in [("Hello", Vec::new()), ("AddMatch", vec![Value::Text(rule)])] {
        let call =
            Call { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member, body };
        bus.call(&call, deadline)?;
    }
    Ok(())
}

fn system_bus() -> Result<Address, DbusError> {
    match std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").filter(|list| !list.is_empty()) {
        Some(list) => Address::parse(&list),
        None => Ok(Address::Path(SYSTEM_BUS.into())),
    }
}

fn user_bus() -> Result<Address, DbusError> {
    match std::env::var_os("DBUS_SESSION_BUS_ADDRESS").filter(|list| !list.is_empty()) {
        Some(list) => Address::parse(&list),
        None => match runtime_dir() {
            Some(dir) => Ok(Address::Path(dir.join("bus"))),
            None => Err(DbusError::NoUserBus),
        },
    }
}

/// `$XDG_RUNTIME_DIR`, or the directory that logind makes.
fn runtime_dir() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    given.filter(|dir| dir.is_absolute()).or_else(|| {
        let dir = PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()));
        dir.is_dir().then_some(dir)
    })
}

/// Whether the environment leads to a user's bus.
pub(super) fn has_user_bus() -> bool {
    match user_bus() {
        Ok(Address::Path(path)) => Path::new(&path).exists(),
        Ok(Address::Abstract(_)) => true,
        Err(_) => false,
    }
}

/// `252` of `252.38-1~deb12u1`, `v245.4-1.fc32` or `"v245"`.
fn parse_version(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(['"', 'v']);
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn align(bytes: &mut Vec<u8>, to: usize) {
        bytes.resize(bytes.len().next_multiple_of(to), 0);
    }

    fn text(bytes: &mut Vec<u8>, text: &str) {
        align(bytes, 4);
        bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.bytes().chain([0]));
    }

    /// A message of somebody on the bus: the answer to our first call (2), or a signal (4).
    fn message(kind: u8, sender: &str, names: &[(u8, &str)], types: &str, body: &[u8]) -> Vec<u8> {
        let mut fields = vec![5, 1, b'u', 0, 1, 0, 0, 0];
        for (code, name) in names.iter().chain(&[(7, sender)]) {
            align(&mut fields, 8);
            fields.extend([*code, 1, b's', 0]);
            text(&mut fields, name);
        }
        align(&mut fields, 8);
        fields.extend([8, 1, b'g', 0, u8::try_from(types.len()).unwrap()]);
        fields.extend(types.bytes().chain([0]));
        let mut bytes = vec![b'l', kind, 0, 1];
        for number in [body.len(), 1, fields.len()] {
            bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        bytes.extend(fields);
        align(&mut bytes, 8);
        bytes.extend(body);
        bytes
    }

    fn job_removed(sender: &str, job: &str, result: &str) -> Vec<u8> {
        let mut body = vec![7, 0, 0, 0];
        [job, "x.scope", result].iter().for_each(|word| text(&mut body, word));
        message(4, sender, &[(2, MANAGER), (3, "JobRemoved")], "uoss", &body)
    }

    #[test]
    fn only_systemd_itself_can_say_that_a_job_has_ended() {
        for (forged, said) in [("failed", "done"), ("done", "failed")] {
            let (ours, mut peer) = UnixStream::pair().unwrap();
            let mut job = Vec::new();
            text(&mut job, "/j/7");
            let answer = message(2, ":1.1", &[], "o", &job);
            let signals = [job_removed(":1.66", "/j/7", forged), job_removed(":1.1", "/j/7", said)];
            peer.write_all(&[answer, signals.concat()].concat()).unwrap();
            let mut manager = Manager { bus: Connection::on(ours) };
            assert_eq!(manager.stop("x.scope").is_ok(), said == "done", "forged: {forged}");
        }
    }

    #[test]
    fn a_version_is_the_number_at_its_start() {
        for (text, number) in [
            ("252.38-1~deb12u1", Some(252)),
            ("v245.4-1.fc32", Some(245)),
            ("\"v245\"", Some(245)),
            ("259", Some(259)),
            ("", None),
            ("rawhide", None),
            ("99999999999", None),
        ] {
            assert_eq!(parse_version(text), number, "{text:?}");
        }
    }
}
