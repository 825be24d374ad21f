//! The driver as distributions install it, as a table of tests.

use std::process::Command;

use super::testing::{LIBRARIES, Machine, VERSION};
use crate::gpu::plan::{Abi, Place, Plan};
use crate::gpu::request::Request;
use crate::gpu::resolve;
use crate::host::elf::EM_386;
use crate::host::testing::elf;

/// One way to install a driver.
struct Distribution {
    name: &'static str,
    /// Where the 64-bit libraries are.
    native: &'static str,
    /// Where the 32-bit ones are.
    compat32: Option<&'static str>,
    /// Links, as target and place, below the root.
    links: &'static [(&'static str, &'static str)],
    /// Where `nvidia-smi` is.
    programs: &'static str,
    /// What `/etc/ld.so.conf` lists, where the places are known to the loader's cache alone.
    loader: &'static [&'static str],
}

const PLAIN: Distribution = Distribution {
    name: "",
    native: "usr/lib64",
    compat32: None,
    links: &[],
    programs: "usr/bin",
    loader: &[],
};

fn distributions() -> Vec<Distribution> {
    vec![
        Distribution {
            name: "Debian",
            native: "usr/lib/x86_64-linux-gnu/nvidia/current",
            compat32: Some("usr/lib/i386-linux-gnu/nvidia/current"),
            links: &[
                (
                    "/etc/alternatives/glx--libcuda.so.1-x86_64-linux-gnu",
                    "usr/lib/x86_64-linux-gnu/libcuda.so.1",
                ),
                (
                    "/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.1",
                    "etc/alternatives/glx--libcuda.so.1-x86_64-linux-gnu",
                ),
                ("/etc/alternatives/nvidia--nvidia-smi", "usr/bin/nvidia-smi"),
                ("/usr/lib/nvidia/current/nvidia-smi", "etc/alternatives/nvidia--nvidia-smi"),
            ],
            programs: "usr/lib/nvidia/current",
            ..PLAIN
        },
        Distribution {
            name: "Ubuntu",
            native: "usr/lib/x86_64-linux-gnu",
            compat32: Some("usr/lib/i386-linux-gnu"),
            ..PLAIN
        },
        Distribution { name: "RHEL and Fedora", compat32: Some("usr/lib"), ..PLAIN },
        Distribution {
            name: "SUSE, before the merge of /usr",
            native: "lib64",
            compat32: Some("usr/lib"),
            ..PLAIN
        },
        Distribution {
            name: "Arch",
            native: "usr/lib",
            compat32: Some("usr/lib32"),
            links: &[("lib", "usr/lib64"), ("usr/lib", "lib64")],
            ..PLAIN
        },
        Distribution {
            name: "NixOS",
            native: "nix/store/abc-nvidia-x11/lib",
            compat32: Some("nix/store/def-nvidia-x11-lib32/lib"),
            links: &[
                ("/nix/store/ghi-graphics-drivers", "run/opengl-driver"),
                ("/nix/store/abc-nvidia-x11/lib", "nix/store/ghi-graphics-drivers/lib"),
                ("/nix/store/jkl-graphics-drivers-32", "run/opengl-driver-32"),
                ("/nix/store/def-nvidia-x11-lib32/lib", "nix/store/jkl-graphics-drivers-32/lib"),
                (
                    "/nix/store/abc-nvidia-x11/bin/nvidia-smi",
                    "run/current-system/sw/bin/nvidia-smi",
                ),
            ],
            programs: "nix/store/abc-nvidia-x11/bin",
            ..PLAIN
        },
        Distribution { name: "Flatcar, merged into /usr", ..PLAIN },
        Distribution {
            name: "Flatcar, in /opt",
            native: "opt/nvidia/535-6.6.1/lib64",
            links: &[
                ("535-6.6.1", "opt/nvidia/current"),
                ("/opt/nvidia/current/bin/nvidia-smi", "opt/bin/nvidia-smi"),
            ],
            programs: "opt/nvidia/535-6.6.1/bin",
            ..PLAIN
        },
        Distribution {
            name: "Bottlerocket",
            native: "usr/lib/nvidia/tesla",
            programs: "usr/libexec/nvidia/tesla/bin",
            ..PLAIN
        },
        Distribution {
            name: "Container-Optimized OS",
            native: "home/kubernetes/bin/nvidia/lib64",
            programs: "home/kubernetes/bin/nvidia/bin",
            ..PLAIN
        },
        Distribution {
            name: "a driver container below the root",
            native: "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
            programs: "run/nvidia/driver/usr/bin",
            ..PLAIN
        },
        Distribution {
            name: "anywhere, known to ldconfig",
            native: "srv/gpu/driver/lib",
            compat32: Some("srv/gpu/driver/lib32"),
            loader: &["/srv/gpu/driver/lib", "/srv/gpu/driver/lib32"],
            ..PLAIN
        },
        Distribution {
            name: "only the 32-bit ones are in an odd place",
            compat32: Some("srv/gpu/lib32"),
            loader: &["/srv/gpu/lib32"],
            ..PLAIN
        },
    ]
}

/// A machine with this driver.
fn machine(distribution: &Distribution) -> Machine {
    let machine = Machine::new();
    let root = machine.at("root");
    let native = root.join(distribution.native);
    std::fs::rename(root.join(LIBRARIES), machine.at("moved")).unwrap();
    std::fs::create_dir_all(native.parent().unwrap()).unwrap();
    std::fs::rename(machine.at("moved"), &native).unwrap();
    if let Some(directory) = distribution.compat32 {
        let name = format!("root/{directory}/libcuda.so.{VERSION}");
        machine.files.write(&name, elf(false, EM_386, Some("libcuda.so.1")));
    }
    std::fs::remove_file(root.join("usr/bin/nvidia-smi")).unwrap();
    machine.files.program(&format!("root/{}/nvidia-smi", distribution.programs));
    for (target, place) in distribution.links {
        machine.files.link(target, &format!("root/{place}"));
    }
    machine
}

/// Runs ldconfig for the root. `false`: there is none here.
fn ldconfig(machine: &Machine, directories: &[&str]) -> bool {
    machine.files.write("root/etc/ld.so.conf", directories.join("\n"));
    let root = machine.at("root");
    let run = Command::new("/sbin/ldconfig").args(["-X", "-r"]).arg(root).output();
    run.is_ok_and(|output| output.status.success())
}

fn plan(machine: &Machine) -> Plan {
    let spec = serde_json::from_value(serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
                    "env": ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=all"]}
    }))
    .unwrap();
    let request = Request::read(&spec, None).unwrap();
    resolve(&request, vec![], &spec, &machine.settings(""), &machine.host()).unwrap()
}

#[test]
fn the_driver_is_found_where_every_distribution_puts_it() {
    if cfg!(not(target_arch = "x86_64")) {
        println!("skipped: the table is for x86-64");
        return;
    }
    for distribution in distributions() {
        let name = distribution.name;
        let machine = machine(&distribution);
        if !distribution.loader.is_empty() && !ldconfig(&machine, distribution.loader) {
            println!("skipped: {name}: no ldconfig");
            continue;
        }
        let plan = plan(&machine);
        let library = format!("libcuda.so.{VERSION}");
        let source = |abi: Abi| {
            let place = Place::Library(abi, library.clone().into());
            let file = plan.files.iter().find(|file| file.destination == place);
            file.map(|file| file.source.clone())
        };
        let at = |place: &str| machine.at("root").join(place);
        let native = source(Abi::Native);
        assert_eq!(native, Some(at(distribution.native).join(&library)), "{name}");
        let compat32 = distribution.compat32.map(|place| at(place).join(&library));
        assert_eq!(source(Abi::I386), compat32, "{name}");
        let smi =
            plan.files.iter().find(|f| f.destination == Place::Path("/usr/bin/nvidia-smi".into()));
        let expected = at(distribution.programs).join("nvidia-smi");
        assert_eq!(smi.map(|file| &file.source), Some(&expected), "{name}");
        let twice = plan
            .files
            .iter()
            .filter(|file| file.destination == Place::Library(Abi::Native, library.clone().into()));
        assert_eq!(twice.count(), 1, "{name}");
    }
}

#[test]
fn a_link_in_the_cache_leads_to_the_drivers_directory_inside_the_root() {
    let machine = machine(&Distribution { native: "store/x/lib", ..PLAIN });
    machine.files.link("/store/x/lib/libcuda.so.1", "root/srv/links/libcuda.so.1");
    machine
        .files
        .link("/../../../../store/x/lib/libnvidia-ml.so.1", "root/srv/links/libnvidia-ml.so.1");
    if !ldconfig(&machine, &["/srv/links"]) {
        println!("skipped: no ldconfig");
        return;
    }
    let plan = plan(&machine);
    let inside = machine.at("root/store/x/lib");
    assert!(plan.files.iter().any(|file| file.source.starts_with(&inside)));
}

#[test]
fn a_damaged_cache_is_as_good_as_none_and_one_of_another_version_is_a_mismatch() {
    let machine = machine(&Distribution { native: "srv/lib", ..PLAIN });
    let request = || {
        let spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
                        "env": ["NVIDIA_VISIBLE_DEVICES=0"]}
        }))
        .unwrap();
        let request = Request::read(&spec, None).unwrap();
        resolve(&request, vec![], &spec, &machine.settings(""), &machine.host())
    };
    for bytes in
        [&b"glibc-ld.so.cache1.1\xff\xff\xff\xff"[..], b"", b"ld.so-1.7.0\0\xff\xff\xff\x7f"]
    {
        machine.files.write("root/etc/ld.so.cache", bytes);
        let error = request().unwrap_err().to_string();
        assert!(error.contains("are in none of"), "{error}");
    }
    if ldconfig(&machine, &["/srv/lib"]) {
        assert!(request().is_ok());
        machine.kernel("550.54.14");
        let error = request().unwrap_err().to_string();
        assert!(error.contains("srv/lib") && error.contains("reboot"), "{error}");
    }
}
