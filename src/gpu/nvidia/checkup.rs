//! What `doctor` looks at: the driver, its modules, nodes and libraries, as a container would get
//! them.

use super::capabilities::Capabilities;
use super::config::Config;
use super::driver::{self, Driver};
use super::error::Error;
use super::gpus;
use super::hooks;
use super::kernel;
use super::nodes;
use super::trouble::{self, Trouble};
use super::{Nvidia, files, libraries};
use crate::finding::Finding;
use crate::gpu::checkup::{self, Machine};
use crate::gpu::plan::{Abi, FileKind, Place, Plan};
use crate::host::{Host, Modules, Tree};

/// What a capability cannot do without, by the names of libraries before `.so.`.
const NEEDED: [(Capabilities, &[&str]); 5] = [
    (Capabilities::COMPUTE, &["libcuda", "libnvidia-ptxjitcompiler"]),
    (Capabilities::UTILITY, &["libnvidia-ml"]),
    (
        Capabilities::GRAPHICS,
        &["libGLX_nvidia", "libEGL_nvidia", "libnvidia-glcore", "libnvidia-eglcore"],
    ),
    (Capabilities::VIDEO, &["libnvidia-encode", "libnvcuvid"]),
    (Capabilities::NGX, &["libnvidia-ngx"]),
];

/// Where programs are, for dockerd as for anybody.
const PROGRAMS: [&str; 4] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"];

/// What the hook of dockerd's `--gpus` is called.
const HOOK: &str = hooks::INJECTORS[0];

/// Everything about the driver; nothing on a machine without NVIDIA hardware.
pub fn run(machine: Machine<'_>) -> Vec<Finding> {
    let Machine { settings, host, root } = machine;
    let config = match Config::read(settings) {
        Ok(config) => config,
        // The whole file is looked at elsewhere.
        Err(_) => return Vec::new(),
    };
    let version = match kernel::version(host) {
        Ok(version) => version,
        Err(Error::Trouble(Trouble::NoHardware { .. })) => return Vec::new(),
        Err(Error::DriverNotLoaded { .. }) if !trouble::has_hardware(host) => return Vec::new(),
        Err(error) => {
            // Without a driver of the usual kind there can be GPUs all the same.
            let listed = checkup::devices(&Nvidia, machine);
            if !listed.is_empty() {
                return listed;
            }
            let is_lent = matches!(error, Error::Trouble(Trouble::OtherDriver { .. }));
            let found =
                Finding::error("nvidia driver", &error.to_string(), "see dmesg | grep NVRM");
            return vec![if is_lent { found.softened() } else { found }];
        }
    };
    let kind = if kernel::is_open(host) { "open module" } else { "module" };
    let mut findings = vec![Finding::green("nvidia driver", format!("{kind} {version}"))];
    findings.extend(gpus_of(machine));
    findings.extend(modules(host, &config));
    findings.extend(device_nodes(host));
    match located(&version, host, &config) {
        Ok((driver, plan)) => {
            findings.push(Finding::green("nvidia libraries", places(&driver)));
            findings.extend(capabilities(&plan, config.supported));
            findings.extend(firmware(&plan, host));
        }
        Err(error) => findings.push(Finding::error(
            "nvidia libraries",
            &error.to_string(),
            "install the driver's user-space packages",
        )),
    }
    findings.extend(docker_hook(root));
    findings
}

fn gpus_of(machine: Machine<'_>) -> Vec<Finding> {
    let found = checkup::devices(&Nvidia, machine);
    if !found.is_empty() {
        return found;
    }
    let path = machine.host.proc.at(gpus::DIRECTORY);
    vec![Finding::red(
        "nvidia GPUs",
        format!("the driver serves none: {} is empty", path.display()),
        "see the kernel log (dmesg | grep NVRM)",
    )]
}

/// Modules that come with the first container, or never.
fn modules(host: &Host, config: &Config) -> Vec<Finding> {
    let is_loaded = |name: &str| host.sys.status(format!("module/{name}")).ok().flatten().is_some();
    let has_uvm = kernel::majors(host).is_ok_and(|majors| majors.uvm.is_some());
    let wanted = [
        ("nvidia-uvm", has_uvm, "compute and video"),
        ("nvidia-modeset", is_loaded("nvidia_modeset"), "graphics and display"),
    ];
    let loads = config.load_modules && host.modules != Modules::None;
    let missing = wanted.into_iter().filter(|(_, is_loaded, _)| !is_loaded);
    let missing = missing.map(|(module, _, what)| {
        let check = format!("module {module}");
        let remedy = format!("modprobe {module}; for every boot: a line in /etc/modules-load.d");
        let found = match loads {
            true => format!("not loaded; root's first container with {what} loads it"),
            false => format!("not loaded, and gpurun may not load it: no {what}"),
        };
        let found = Finding::red(check, found, remedy);
        if loads || module != "nvidia-uvm" { found.softened() } else { found }
    });
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return vec![Finding::green("nvidia modules", "nvidia-uvm, nvidia-modeset")];
    }
    missing
}

/// The nodes on the host, which containers in a user namespace cannot do without.
fn device_nodes(host: &Host) -> Vec<Finding> {
    let Ok(majors) = kernel::majors(host) else { return Vec::new() };
    let Some(major) = majors.nvidia else {
        return vec![Finding::red(
            "nvidia device nodes",
            format!("no major number for nvidia in {}", host.proc.at("devices").display()),
            "load the module again (modprobe -r nvidia && modprobe nvidia), or reboot",
        )];
    };
    let mut wanted = vec![("nvidiactl".to_owned(), major, nodes::CONTROL)];
    wanted.extend(majors.uvm.map(|uvm| ("nvidia-uvm".to_owned(), uvm, nodes::UVM)));
    let gpus = gpus::read(host).unwrap_or_default();
    let minors = gpus.iter().filter(|gpu| !gpu.excluded).filter_map(|gpu| gpu.minor);
    wanted.extend(minors.map(|minor| (format!("nvidia{minor}"), major, minor)));
    let (mut absent, mut wrong) = (Vec::new(), Vec::new());
    for (name, major, minor) in &wanted {
        let known = wrong.len();
        match nodes::node(host, name, *major, *minor, String::new(), &mut wrong) {
            Ok(node) if node.host_path.is_none() && wrong.len() == known => {
                absent.push(format!("/dev/{name}"));
            }
            Ok(_) => {}
            Err(error) => wrong.push(error.to_string()),
        }
    }
    let check = "nvidia device nodes";
    let make = "nvidia-modprobe -u -c 0, or nvidia-smi, as root";
    let mut findings: Vec<_> = wrong
        .iter()
        .map(|found| Finding::yellow(check, found, format!("remove it, then {make}")))
        .collect();
    if !absent.is_empty() {
        let found = format!(
            "absent: {}; made in root's containers, not to be had in a user namespace",
            absent.join(", ")
        );
        findings.push(Finding::yellow(check, found, make));
    }
    if findings.is_empty() {
        findings.push(Finding::green(check, format!("{} with the driver's numbers", wanted.len())));
    }
    findings
}

/// The user-space driver, and all that a container with every capability gets of it.
fn located(version: &str, host: &Host, config: &Config) -> Result<(Driver, Plan), Error> {
    let root = Tree::open(&config.driver_root)?;
    let driver = driver::locate(root, version, Capabilities::ALL, config)?;
    let mut plan = Plan::default();
    libraries::add(&driver, Capabilities::ALL, &mut plan)?;
    files::add(&driver, host, Capabilities::ALL, config, &mut plan)?;
    Ok((driver, plan))
}

fn places(driver: &Driver) -> String {
    let places = driver.directories.iter().map(|known| known.directory.path().display());
    let places: Vec<_> = places.map(|path| path.to_string()).collect();
    format!("{}, in {}", driver.version, places.join(", "))
}

/// What is missing for each capability that containers may have.
fn capabilities(plan: &Plan, supported: Capabilities) -> Vec<Finding> {
    let library = |abi: Abi| {
        let files = plan.files.iter().filter_map(move |file| match &file.destination {
            Place::Library(found, path) if *found == abi => path.file_name()?.to_str(),
            _ => None,
        });
        files.filter_map(|name| Some(name.split_once(".so")?.0)).collect::<Vec<_>>()
    };
    let native = library(Abi::Native);
    let has_file = |name: &str, kind: &FileKind| {
        plan.files.iter().any(|file| file.kind == *kind && file.source.ends_with(name))
    };
    let mut findings = Vec::new();
    for (capability, stems) in NEEDED.iter().filter(|(one, _)| supported.any(*one)) {
        let names = capability.names().join(", ");
        let check = format!("nvidia {names}");
        let mut missing: Vec<&str> =
            stems.iter().copied().filter(|stem| !native.contains(stem)).collect();
        if *capability == Capabilities::UTILITY && !has_file("nvidia-smi", &FileKind::Binary) {
            missing.push("nvidia-smi");
        }
        if *capability == Capabilities::GRAPHICS
            && missing.is_empty()
            && !has_file("nvidia_icd.json", &FileKind::Data)
        {
            missing.push("nvidia_icd.json (Vulkan finds no driver)");
        }
        let found = format!("missing: {}", missing.join(", "));
        let remedy = "install all user-space packages of this driver version, or tell where they \
                      are with library-paths";
        let is_vital = Capabilities::DEFAULT.any(*capability);
        findings.push(match missing.is_empty() {
            true => Finding::green(check, ""),
            false if is_vital => Finding::red(check, found, remedy),
            false => Finding::yellow(
                check,
                found,
                format!("{remedy}; nothing, where no container asks for {names}"),
            ),
        });
    }
    if supported.any(Capabilities::COMPAT32) && library(Abi::I386).is_empty() {
        findings.push(Finding::green("nvidia compat32", "not installed; for 32-bit programs only"));
    }
    findings
}

/// The open module starts no GPU without its firmware.
fn firmware(plan: &Plan, host: &Host) -> Option<Finding> {
    let has_it = plan.files.iter().any(|file| file.why == files::FIRMWARE);
    let is_asleep = gpus::read(host).ok()?.iter().any(|gpu| gpu.uuid.is_none() && !gpu.excluded);
    (kernel::is_open(host) && is_asleep && !has_it).then(|| {
        Finding::red(
            "nvidia firmware",
            "the open module has started no GPU, and gsp_*.bin is in no firmware directory",
            "install the driver's firmware package",
        )
    })
}

/// `docker run --gpus` is refused by a dockerd that finds no such program.
fn docker_hook(root: &Tree) -> Option<Finding> {
    let has = |name: &str| {
        let mut found = PROGRAMS.iter().map(|dir| root.status(format!("{dir}/{name}")));
        found.any(|status| matches!(status, Ok(Some(_))))
    };
    (has("dockerd") && !has(HOOK)).then(|| {
        Finding::yellow(
            "docker --gpus",
            format!("dockerd finds no {HOOK}, without which it refuses --gpus"),
            "gpurun node install-hook-name (it makes a link of that name), then restart dockerd",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;
    use crate::gpu::nvidia::testing::{LIBRARIES, Machine as MadeUp, VERSION};

    fn machine() -> MadeUp {
        let machine = MadeUp::new();
        for stem in ["libEGL_nvidia", "libnvidia-glcore", "libnvidia-eglcore", "libnvcuvid"] {
            machine.library(
                LIBRARIES,
                &format!("{stem}.so.{VERSION}"),
                Some(&format!("{stem}.so.1")),
            );
        }
        let files = &machine.files;
        files.write("root/usr/share/vulkan/icd.d/nvidia_icd.json", "{}");
        files.directory("sys/module/nvidia_modeset");
        files.directory("etc");
        for (name, major, minor) in
            [("nvidiactl", 195, 255), ("nvidia-uvm", 511, 0), ("nvidia0", 195, 0)]
                .into_iter()
                .chain([("nvidia1", 195, 1), ("nvidia7", 195, 7), ("nvidia3", 195, 3)])
        {
            files.node(&format!("dev/{name}"), major, minor, 0o666);
        }
        machine
    }

    fn found(made_up: &MadeUp) -> Vec<Finding> {
        let (settings, host) = (made_up.settings(""), made_up.host());
        let root = Tree::open(&made_up.at("root")).unwrap();
        run(Machine { settings: &settings, host: &host, root: &root })
    }

    /// Breaks the machine and expects one finding that is not green, with these words.
    #[track_caller]
    fn breaks(harm: impl Fn(&MadeUp), check: &str, word: &str, found_words: &str, remedy: &str) {
        let made_up = machine();
        harm(&made_up);
        let all = found(&made_up);
        let ill = all.iter().find(|one| one.check == check && one.verdict != Verdict::Green);
        let Some(ill) = ill else { panic!("{check} is green: {all:?}") };
        assert_eq!(ill.verdict.word(), word, "{ill:?}");
        assert!(ill.found.contains(found_words), "{ill:?}");
        assert!(ill.verdict.remedy().unwrap().contains(remedy), "{ill:?}");
    }

    #[test]
    fn a_machine_that_is_well_is_all_green() {
        let made_up = machine();
        let all = found(&made_up);
        if !made_up.at("dev/nvidia0").exists() {
            println!("skipped: no right to make device nodes");
            return;
        }
        assert!(all.iter().all(|one| one.verdict == Verdict::Green), "{all:#?}");
        let gpus = all.iter().find(|one| one.check == "nvidia GPUs").unwrap();
        assert_eq!(gpus.found, "4 × NVIDIA A100-SXM4-40GB");
    }

    #[test]
    fn each_harm_is_found_and_has_its_remedy() {
        let remove = |path: &'static str| {
            move |made_up: &MadeUp| {
                let path = made_up.at(path);
                std::fs::remove_file(&path)
                    .or_else(|_| std::fs::remove_dir_all(&path))
                    .unwrap_or_else(|err| panic!("{path:?}: {err}"));
            }
        };
        let drop_library = |stem: &'static str| {
            move |made_up: &MadeUp| {
                let file = format!("root/{LIBRARIES}/{stem}.so.{VERSION}");
                std::fs::remove_file(made_up.at(file)).unwrap();
            }
        };
        breaks(|m| m.kernel("550.54.14"), "nvidia libraries", "red", "are version", "reboot");
        breaks(remove("root/usr"), "nvidia libraries", "red", "are in none of", "install");
        breaks(remove("proc/driver/nvidia/gpus"), "nvidia GPUs", "red", "serves none", "dmesg");
        breaks(
            |m| m.files.write("proc/devices", "Character devices:\n195 nvidia\n"),
            "module nvidia-uvm",
            "red",
            "not loaded",
            "modprobe nvidia-uvm",
        );
        breaks(
            remove("sys/module/nvidia_modeset"),
            "module nvidia-modeset",
            "yellow",
            "graphics",
            "modprobe nvidia-modeset",
        );
        breaks(
            |m| m.files.write("proc/devices", "Character devices:\n511 nvidia-uvm\n"),
            "nvidia device nodes",
            "red",
            "no major number",
            "reboot",
        );
        let compute = drop_library("libnvidia-ptxjitcompiler");
        breaks(compute, "nvidia compute", "red", "libnvidia-ptxjitcompiler", "user-space packages");
        breaks(
            remove("root/usr/bin/nvidia-smi"),
            "nvidia utility",
            "red",
            "missing: nvidia-smi",
            "install",
        );
        breaks(drop_library("libnvcuvid"), "nvidia video", "yellow", "libnvcuvid", "no container");
        breaks(
            remove("root/usr/share/vulkan"),
            "nvidia graphics",
            "yellow",
            "nvidia_icd.json",
            "install",
        );
        breaks(
            |m| m.files.program("root/usr/bin/dockerd"),
            "docker --gpus",
            "yellow",
            HOOK,
            "install-hook-name",
        );
    }

    #[test]
    fn nodes_that_are_missing_or_stale_are_named() {
        let made_up = machine();
        if !made_up.at("dev/nvidia0").exists() {
            println!("skipped: no right to make device nodes");
            return;
        }
        breaks(
            |m| std::fs::remove_file(m.at("dev/nvidia7")).unwrap(),
            "nvidia device nodes",
            "yellow",
            "absent: /dev/nvidia7",
            "nvidia-modprobe",
        );
        breaks(
            |m| {
                m.files.write("proc/devices", "Character devices:\n195 nvidia\n510 nvidia-uvm\n");
            },
            "nvidia device nodes",
            "yellow",
            "is not the character device 510:0",
            "remove it",
        );
    }

    #[test]
    fn a_machine_without_the_hardware_has_no_findings() {
        let made_up = machine();
        std::fs::remove_dir_all(made_up.at("proc/driver")).unwrap();
        assert_eq!(found(&made_up), []);
        let device = "sys/bus/pci/devices/0000:01:00.0";
        made_up.files.write(&format!("{device}/vendor"), "0x10de\n");
        made_up.files.write(&format!("{device}/class"), "0x030200\n");
        let [driver] = &found(&made_up)[..] else { panic!("one finding") };
        assert_eq!(driver.verdict.word(), "red");
        assert!(driver.verdict.remedy().unwrap().contains("modprobe nvidia"), "{driver:?}");
        made_up.files.link("../../drivers/vfio-pci", &format!("{device}/driver"));
        assert_eq!(found(&made_up)[0].verdict.word(), "yellow");
    }
}
