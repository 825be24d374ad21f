//! `net_cls.classid` and `net_prio.ifpriomap`, which only v1 has.

use oci_spec::runtime::LinuxNetwork;

use super::{CgroupError, Knobs, invalid, only_on_v1};

pub(super) fn set(
    class: &Knobs,
    priority: &Knobs,
    network: &LinuxNetwork,
) -> Result<(), CgroupError> {
    if let Some(id) = network.class_id().filter(|id| *id != 0) {
        if class.v2 {
            return Err(only_on_v1("network.classID"));
        }
        class.write("net_cls.classid", &id.to_string())?;
    }
    for map in network.priorities().iter().flatten() {
        if priority.v2 {
            return Err(only_on_v1("network.priorities"));
        }
        let name = map.name();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(invalid(
                "network.priorities",
                format!("{name:?} is not an interface name"),
            ));
        }
        priority.write("net_prio.ifpriomap", &format!("{name} {}", map.priority()))?;
    }
    Ok(())
}
