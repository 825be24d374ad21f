//! NVIDIA's GPUs, for lists of what the machine has.

use std::path::PathBuf;

use super::config::Config;
use super::drm;
use super::error::Error;
use super::gpus::{self, Gpu};
use super::kernel;
use super::mig::{self, Instance, Minors};
use super::mig_uuids::{self, Place};
use super::trouble;
use super::{KIND, Nvidia};
use crate::gpu::error::GpuError;
use crate::gpu::inventory::{self, Device, Part, PartIds};
use crate::host::{Host, Settings};

/// Every GPU that the driver lists, also those that no container can have.
pub fn read(host: &Host) -> Result<Vec<Device>, Error> {
    let gpus = gpus::read(host)?;
    if gpus.is_empty() {
        return Ok(Vec::new());
    }
    let version = kernel::version(host).map(|version| format!("nvidia {version}"));
    let driver = version.unwrap_or_else(|_| "nvidia".to_owned());
    let minors = Minors::read(host)?;
    gpus.iter().map(|gpu| device(gpu, &driver, &minors, host)).collect()
}

fn device(gpu: &Gpu, driver: &str, minors: &Minors, host: &Host) -> Result<Device, Error> {
    let own = gpu.minor.map(|minor| PathBuf::from(format!("/dev/nvidia{minor}")));
    let drm = drm::names(host, gpu.address)?.into_iter();
    let nodes = own.into_iter().chain(drm.map(|name| PathBuf::from("/dev/dri").join(name)));
    let instances = match gpu.minor {
        Some(minor) => mig::instances(host, minor)?,
        None => Vec::new(),
    };
    Ok(Device {
        kind: KIND.into(),
        name: gpu.index.map_or_else(|| gpu.address.to_string(), |index| index.to_string()),
        uuid: gpu.uuid.clone(),
        bus_id: Some(gpu.address.to_string()),
        model: (!gpu.model.is_empty()).then(|| gpu.model.clone()),
        driver: Some(driver.to_owned()),
        numa_node: inventory::numa_node(host, gpu.address),
        nodes: nodes.collect(),
        parts: instances.iter().map(|one| part(gpu, *one, minors)).collect(),
        trouble: match gpu.excluded {
            true => Some("the driver was told to leave it alone".to_owned()),
            false => trouble::of(gpu, host)?.map(|trouble| trouble.to_string()),
        },
    })
}

fn part(gpu: &Gpu, instance: Instance, minors: &Minors) -> Part {
    let rights = gpu.minor.map(|minor| instance.rights(minor)).into_iter().flatten();
    let numbers = rights.filter_map(|right| minors.find(&right));
    Part {
        name: match gpu.index {
            Some(index) => format!("{index}:{}", instance.index),
            None => instance.to_string(),
        },
        what: instance.to_string(),
        uuid: None,
        nodes: numbers
            .map(|minor| PathBuf::from(format!("/dev/nvidia-caps/nvidia-cap{minor}")))
            .collect(),
    }
}

impl PartIds for Nvidia {
    fn is_id(&self, id: &str) -> bool {
        mig_uuids::is_uuid(id)
    }

    fn identify(
        &self,
        settings: &Settings,
        host: &Host,
        devices: &mut [Device],
    ) -> Result<(), GpuError> {
        let own = devices.iter_mut().filter(|one| one.kind == KIND && !one.parts.is_empty());
        let own: Vec<&mut Device> = own.collect();
        if own.is_empty() {
            return Ok(());
        }
        let gpus = gpus::read(host).map_err(GpuError::from)?;
        let version = kernel::version(host)?;
        let uuids = mig_uuids::every(&gpus, host, &Config::read(settings)?, &version)?;
        for device in own {
            let is_it = |gpu: &&Gpu| gpu.uuid.is_some() && gpu.uuid == device.uuid;
            let Some(minor) = gpus.iter().find(is_it).and_then(|gpu| gpu.minor) else { continue };
            let instances = mig::instances(host, minor)?;
            for part in &mut device.parts {
                let instance = instances.iter().find(|one| one.to_string() == part.what);
                let uuid = instance.and_then(|one| {
                    let is_it = |place: &Place| {
                        device.uuid.as_ref().is_some_and(|gpu| gpu.eq_ignore_ascii_case(&place.gpu))
                            && (place.gi, place.ci) == (one.gi, one.ci)
                    };
                    uuids.iter().find(|(place, _)| is_it(place))
                });
                part.uuid = uuid.map(|(_, uuid)| uuid.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::nvidia::testing::Machine;

    #[test]
    fn gpus_are_listed_with_their_nodes_driver_and_mig_devices() {
        let machine = Machine::new();
        let files = &machine.files;
        files.write("sys/bus/pci/devices/0000:41:00.0/numa_node", "1\n");
        files.write("sys/bus/pci/devices/0000:41:00.0/drm/renderD130/dev", "226:130\n");
        files.write("proc/driver/nvidia/capabilities/gpu7/mig/gi2/ci0/access", "");
        files.write(
            "proc/driver/nvidia-caps/mig-minors",
            "gpu7/gi2/access 21\ngpu7/gi2/ci0/access 22\n",
        );
        let devices = read(&machine.host()).unwrap();
        assert_eq!(devices.len(), 4);
        let third = &devices[2];
        assert_eq!((third.name.as_str(), third.numa_node), ("2", Some(1)));
        assert_eq!(third.driver.as_deref(), Some("nvidia 535.104.05"));
        assert_eq!(third.nodes, ["/dev/nvidia7", "/dev/dri/renderD130"].map(PathBuf::from));
        let [part] = &third.parts[..] else { panic!("{:?}", third.parts) };
        assert_eq!((part.name.as_str(), part.what.as_str()), ("2:0", "MIG device 0 (GI 2, CI 0)"));
        let caps = ["/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"];
        assert_eq!(part.nodes, caps.map(PathBuf::from));
    }

    #[test]
    fn a_machine_without_the_driver_has_no_gpus() {
        let machine = Machine::new();
        std::fs::remove_dir_all(machine.at("proc/driver")).unwrap();
        assert_eq!(read(&machine.host()).unwrap(), []);
    }
}
