//! What the driver says in text files, and the words of NVIDIA's variables and configuration.

use super::capabilities::Capabilities;
use super::config::Config;
use super::mig::Minors;
use super::params::without_modification;
use super::requirements::{Machine, Verdict, evaluate};
use super::tegra::csv;
use super::{gpus, kernel, library_table, mig_uuids, smi, toolkit_config};
use crate::fuzzing::{Choices, Target, text};
use crate::gpu::pci::Address;
use crate::gpu::{cdi, tables};
use crate::host::{Host, Settings};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "capabilities", run: capabilities },
    Target { name: "requirements", run: requirements },
    Target { name: "gpu_information", run: gpu_information },
    Target { name: "driver_files", run: driver_files },
    Target { name: "config", run: config },
    Target { name: "toolkit_config", run: toolkit },
    Target { name: "tegra_csv", run: tegra_csv },
    Target { name: "nvidia_smi", run: nvidia_smi },
    Target { name: "mig_uuid_cache", run: mig_uuid_cache },
];

fn capabilities(data: &[u8]) {
    let list = text(data);
    let Ok(found) = Capabilities::parse(list) else { return };
    assert_eq!(Capabilities::parse(&found.names().join(",")), Ok(found));
    let mut words: Vec<&str> = list.split(',').collect();
    words.reverse();
    assert_eq!(Capabilities::parse(&words.join(",")), Ok(found), "the order matters");
    assert_eq!(found.and(Capabilities::ALL), found);
}

/// The versions of the driver and of CUDA, one a line, then two expressions.
fn requirements(data: &[u8]) {
    let mut lines = text(data).splitn(4, '\n');
    let [driver, cuda, a, b] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let cuda = (!cuda.is_empty()).then(|| cuda.to_owned());
    let machine = Machine { driver: Some(driver.to_owned()), cuda };
    let of = |expression: &str| evaluate(expression, &machine);
    let rank = |verdict: Verdict| match verdict {
        Verdict::Met => 2,
        Verdict::Undecided => 1,
        Verdict::Unmet(condition) => {
            assert!(a.contains(&condition) || b.contains(&condition), "{condition:?} of nowhere");
            0
        }
    };
    let both = [of(&format!("{a} {b}")), of(&format!("{b} {a}"))].map(|it| it.map(rank).ok());
    assert_eq!(both[0], both[1], "the order of alternatives matters");
    if let (Ok(one), Ok(other)) = (of(a), of(b))
        && ![a, b].iter().any(|expression| expression.trim().is_empty())
    {
        assert_eq!(both[0], Some(rank(one).max(rank(other))), "alternatives are no alternatives");
    }
    // A condition and its opposite, where it is one condition.
    if a.contains(|c: char| c == ',' || c.is_whitespace()) || a.starts_with(['=', '!', '<', '>']) {
        return;
    }
    for (sign, opposite) in [("=", "!="), ("<", ">="), (">", "<=")] {
        let [yes, no] = [sign, opposite].map(|sign| of(&format!("driver{sign}{a}")));
        match (yes, no) {
            (Ok(Verdict::Met), no) => assert!(matches!(no, Ok(Verdict::Unmet(_))), "{no:?}"),
            (Ok(Verdict::Unmet(_)), no) => assert_eq!(no, Ok(Verdict::Met)),
            (yes, no) => assert_eq!(yes.is_ok(), no.is_ok()),
        }
    }
}

fn gpu_information(data: &[u8]) {
    let address = Address { domain: 0, bus: 1, device: 0, function: 0 };
    let gpu = gpus::parse("0000:01:00.0".to_owned(), address, text(data));
    assert!(gpu.index.is_none());
    assert!(gpu.uuid.as_deref().is_none_or(gpus::is_uuid));
    assert!(gpu.minor.is_none_or(|minor| minor < 1 << 20));
    assert!(gpu.model.chars().count() <= 128 && !gpu.model.contains(char::is_control));
}

/// The other files below `/proc/driver/nvidia`, and `/proc/devices`.
fn driver_files(data: &[u8]) {
    let mut choices = Choices(data);
    let kind = choices.byte();
    let text = text(choices.0);
    match kind % 4 {
        0 => {
            let minors = Minors::parse(text);
            for line in text.lines() {
                let right = line.split_whitespace().next().unwrap_or_default();
                assert!(minors.find(right).is_none_or(|minor| minor < 1 << 20));
            }
        }
        1 => {
            if let Some(content) = without_modification(text) {
                assert_eq!(without_modification(&content), None, "it is still on");
                assert_eq!(content.lines().count(), text.lines().count());
            }
        }
        2 => {
            if let Some(version) = kernel::parse_version(text) {
                assert!(kernel::is_version(version) && text.contains(version));
                assert!(version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
                for name in text.lines() {
                    if let Some((stem, _)) = library_table::classify(name, version) {
                        assert!(name.starts_with(stem));
                    }
                }
            }
        }
        _ => {
            let majors = kernel::parse_majors(text);
            for major in [majors.nvidia, majors.uvm].into_iter().flatten() {
                assert!(text.contains(&major.to_string()) || text.contains('0'));
            }
        }
    }
}

/// What every reader of the configuration makes of it. Errors name file and line, in one line.
fn read_all(settings: &Settings) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let config = Config::read(settings).map_err(|error| words(&error))?;
    let paths =
        config.library_paths.iter().chain(&config.binary_paths).chain([&config.driver_root]);
    assert!(paths.into_iter().all(|path| path.is_absolute()));
    assert!(config.swarm_resource.iter().all(|name| name.starts_with("DOCKER_RESOURCE_")));
    assert_eq!(config.supported.and(Capabilities::ALL), config.supported);
    let cdi = cdi::Config::read(settings).map_err(|error| words(&error))?;
    assert!(cdi.dirs.iter().all(|dir| dir.is_absolute()));
    let Err(error) = Host::from_settings(settings).map(drop) else { return Ok(()) };
    Err(words(&error))
}

fn config(data: &[u8]) {
    let content = text(data).to_owned();
    let lines = content.matches('\n').count() + 1;
    let parsed = Settings::parse("/c.toml".as_ref(), content, &tables());
    let done = parsed.map_err(|error| error.to_string()).and_then(|found| read_all(&found));
    let Err(error) = done else { return };
    assert!(!error.contains('\n'), "an error of two lines: {error}");
    if let Some((_, rest)) = error.split_once("configuration file /c.toml line ") {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let line: usize = digits.parse().expect("a number");
        assert!((1..=lines).contains(&line), "line {line} of {lines}");
    }
}

/// NVIDIA's own file, in which any key may stand.
fn toolkit(data: &[u8]) {
    let empty = Settings::parse("/c.toml".as_ref(), String::new(), &tables()).expect("empty");
    let Ok(both) = empty.with_fallback_text(&toolkit_config::CONFIGURATION, text(data)) else {
        return;
    };
    if let Err(error) = read_all(&both) {
        assert!(!error.contains('\n'), "an error of two lines: {error}");
    }
}

/// A list of a Jetson's files.
fn tegra_csv(data: &[u8]) {
    let list = text(data);
    let entries = csv::parse(list);
    assert!(entries.len() <= list.lines().count());
    let mut written = String::new();
    for entry in &entries {
        assert!(entry.path.starts_with('/') && !entry.path.contains(['\0', '\n']));
        assert!(entry.path.split('/').all(|name| name != ".."));
        let kind = match entry.kind {
            csv::Kind::Device => "dev",
            csv::Kind::Directory => "dir",
            csv::Kind::Library => "lib",
            csv::Kind::Link => "sym",
        };
        written += &format!("{kind}, {}\n", entry.path);
    }
    assert_eq!(csv::parse(&written), entries, "not read as written");
}

/// What `nvidia-smi` says to `-L` or to `-q -x`.
fn nvidia_smi(data: &[u8]) {
    let said = text(data);
    if let Some(listed) = smi::listed(said) {
        for one in &listed {
            assert!(gpus::is_uuid(&one.gpu) && one.uuid.starts_with("MIG-"));
            assert!(said.contains(&one.uuid) && said.contains(&one.gpu));
        }
        assert_eq!(smi::listed(&format!("{said}\nsomething new\n")), Some(listed));
    }
    for gpu in ["GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "", "G"] {
        let whole = smi::numbered(said, gpu);
        let most = said.matches("<mig_device>").count();
        assert!(whole.as_ref().is_none_or(|devices| devices.len() <= most));
        // What was cut off, by its timeout or its end, is no other device.
        for cut in [said.len() / 2, said.len().saturating_sub(7)] {
            let cut = (0..=cut).rev().find(|at| said.is_char_boundary(*at)).unwrap_or(0);
            if let (Some(found), Some(whole)) = (smi::numbered(&said[..cut], gpu), &whole) {
                assert!(whole.starts_with(&found), "{found:?} is not the start of {whole:?}");
            }
        }
    }
}

/// The answers that are kept.
fn mig_uuid_cache(data: &[u8]) {
    let known = mig_uuids::Known::parse(Some(data), "b", "1");
    let written = serde_json::to_vec(&known).expect("JSON");
    assert_eq!(mig_uuids::Known::parse(Some(&written), "b", "1"), known);
    let nothing = mig_uuids::Known::parse(None, "c", "1");
    assert_eq!(mig_uuids::Known::parse(Some(&written), "c", "1"), nothing);
    let asked = ["MIG-ffda444c-c706-57c6-98c9-67c441a0b109", "MIG-a"];
    let one = known.places(&asked[..1]);
    let both = known.places(&asked);
    assert!(both.is_none() || one.is_some());
    assert!(one.is_none_or(|places| places.len() == 1 && text(data).contains("mig-ffda444c")
        || text(data).contains("\\u")));
}
