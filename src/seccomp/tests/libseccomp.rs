//! The same profiles through libseccomp: both programs must give the same answers.
//!
//! libseccomp is no dependency: a small C program is compiled when the machine has it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libc::sock_filter;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompOperator};
use serde_json::Value;

use super::super::interpreter::{Call, run};
use super::{ARCHS, ARM_FAMILY, X86_FAMILY, everyday, number, profile};
use crate::seccomp::action::return_value;
use crate::seccomp::arch::X32_BIT;
use crate::seccomp::assemble::assemble;
use crate::seccomp::condition::alternatives;
use crate::seccomp::resolve::resolve;
use crate::seccomp::{Arch, syscalls};

/// Values around what profiles compare with.
const VALUES: [u64; 24] = [
    0,
    1,
    2,
    3,
    5,
    8,
    9,
    16,
    37,
    38,
    39,
    40,
    41,
    0x2_0000,
    0x2_0008,
    0x0120_0011,
    0x0200_0000,
    0x1000_0000,
    0x7e02_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0008,
    0x8000_0000_0000_0000,
    u64::MAX,
];

struct Exporter(PathBuf);

impl Exporter {
    fn build(test: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("seccomp-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).ok()?;
        let built = Self(dir);
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp/tests/libseccomp_export.c");
        let status = Command::new("cc")
            .arg("-o")
            .args([&built.program(), &source])
            .arg("-lseccomp")
            .stderr(Stdio::null())
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Some(built);
        }
        println!("skipped: no C compiler or no libseccomp-dev");
        None
    }

    fn program(&self) -> PathBuf {
        self.0.join("export")
    }

    /// libseccomp's program, and what it did not know or refused.
    fn export(&self, profile: &LinuxSeccomp, native: Arch) -> (Vec<sock_filter>, Vec<String>) {
        let mut child = Command::new(self.program())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("exporter");
        let text = rules_as_runc_adds_them(profile, native);
        child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("write");
        let output = child.wait_with_output().expect("exporter");
        assert!(output.status.success(), "{:?}\n{text}", output.status);
        let program = output
            .stdout
            .as_chunks::<8>()
            .0
            .iter()
            .map(|raw| sock_filter {
                code: u16::from_ne_bytes([raw[0], raw[1]]),
                jt: raw[2],
                jf: raw[3],
                k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
            })
            .collect();
        let remarks = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
        (program, remarks)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn rules_as_runc_adds_them(profile: &LinuxSeccomp, native: Arch) -> String {
    let default = return_value(profile.default_action(), profile.default_errno_ret()).unwrap();
    let mut text = format!("default {default:x}\n");
    let listed = profile.architectures().as_deref().unwrap_or_default();
    for arch in native.family() {
        if *arch == native || listed.contains(&arch.profile_name()) {
            text += &format!("arch {}\n", format!("{arch:?}").to_lowercase());
        }
    }
    text += "archs-end\n";
    for entry in profile.syscalls().iter().flatten() {
        let action = return_value(entry.action(), entry.errno_ret()).unwrap();
        if action == default {
            continue;
        }
        let args = entry.args().as_deref().unwrap_or_default();
        let mut alternatives = alternatives("", args).unwrap();
        if alternatives.is_empty() {
            alternatives.push(Vec::new());
        }
        for name in entry.names() {
            for conditions in &alternatives {
                text += &format!("rule {name} {action:x}");
                for condition in conditions {
                    let (a, b) = match condition.op {
                        LinuxSeccompOperator::ScmpCmpMaskedEq => (condition.mask, condition.value),
                        _ => (condition.value, 0),
                    };
                    text += &format!(" {} {} {a:x} {b:x}", condition.arg, condition.op as u32);
                }
                text += "\n";
            }
        }
    }
    text
}

/// `profile` without the names that libseccomp, which may be older than our tables, has not got.
fn without_unknown(mut profile: LinuxSeccomp, remarks: &[String]) -> LinuxSeccomp {
    let mut entries = profile.syscalls().clone().unwrap_or_default();
    for entry in &mut entries {
        let known = |name: &String| !remarks.contains(&format!("unknown {name}"));
        let names = entry.names().iter().filter(|name| known(name)).cloned().collect();
        entry.set_names(names);
    }
    profile.set_syscalls(Some(entries));
    profile
}

/// Every number of an ABI's table and some beyond.
fn all_numbers() -> Vec<u32> {
    (0..=600)
        .chain((0..=600).map(|nr| nr | X32_BIT))
        .chain(0xf0000..0xf0010)
        .chain([1 << 16, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX])
        .collect()
}

/// Asks both programs about the calls `numbers` on every ABI; the number of questions.
fn compare(
    exporter: &Exporter,
    profile: LinuxSeccomp,
    native: Arch,
    numbers: &[u32],
    what: &str,
) -> usize {
    let (theirs, remarks) = exporter.export(&profile, native);
    let refused: Vec<_> = remarks.iter().filter(|line| line.starts_with("refused")).collect();
    assert!(refused.is_empty(), "{what}: {refused:?}");
    let profile = without_unknown(profile, &remarks);
    let mut resolved = resolve(&profile, native).expect("resolves");
    // That part is runc's own, not libseccomp's.
    resolved.enosys = false;
    let ours = assemble(&resolved).expect("assembles");
    println!("{what}: {} instructions, libseccomp {}", ours.len(), theirs.len());

    let mut asked = 0;
    let mut ask = |arch: u32, nr: u32, args: [u64; 6]| {
        let call = Call { arch, nr, args };
        let (ours, theirs) = (run(&ours, &call), run(&theirs, &call));
        assert_eq!(ours, theirs, "{what}: {call:x?}: {ours:#x} and not {theirs:#x}");
        asked += 1;
    };
    for nr in numbers.iter().copied() {
        for arch in ARCHS.map(Arch::audit).into_iter().chain([0, 0x8000_0016]) {
            ask(arch, nr, [0; 6]);
            for value in VALUES {
                for arg in 0..3 {
                    let mut args = [0; 6];
                    args[arg] = value;
                    ask(arch, nr, args);
                }
                ask(arch, nr, [value, value, value, value, value, value]);
                ask(arch, nr, [16, value, 9, value, 0, 0]);
            }
        }
    }
    asked
}

#[test]
fn everyday_profiles_get_libseccomps_answers() {
    let Some(exporter) = Exporter::build("everyday") else {
        return;
    };
    for archs in ["[]", r#"["SCMP_ARCH_X86_64"]"#, r#"["SCMP_ARCH_X86"]"#, X86_FAMILY] {
        compare(&exporter, everyday(archs), Arch::X86_64, &all_numbers(), archs);
    }
    for archs in ["[]", ARM_FAMILY] {
        compare(&exporter, everyday(archs), Arch::Aarch64, &all_numbers(), archs);
    }
}

#[test]
fn the_engines_default_profile_gets_libseccomps_answers() {
    const PROFILE: &str = "/usr/share/containers/seccomp.json";
    let Ok(json) = std::fs::read_to_string(PROFILE) else {
        println!("skipped: no {PROFILE}");
        return;
    };
    let Some(exporter) = Exporter::build("engine") else {
        return;
    };
    let template: Value = serde_json::from_str(&json).expect(PROFILE);
    for (native, go_arch) in [(Arch::X86_64, "amd64"), (Arch::Aarch64, "arm64")] {
        for all_caps in [false, true] {
            let profile = as_an_engine_resolves(&template, native, go_arch, all_caps);
            let what = format!("{go_arch}, all capabilities: {all_caps}");
            compare(&exporter, profile, native, &all_numbers(), &what);
        }
    }
}

/// The parts of an engine's profile template that apply on `native`.
fn as_an_engine_resolves(
    template: &Value,
    native: Arch,
    go_arch: &str,
    all_caps: bool,
) -> LinuxSeccomp {
    let mut resolved = template.clone();
    let lists = |entry: &Value, which: &str, key: &str| -> Vec<String> {
        let list = entry[which][key].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let applies = |entry: &Value| {
        let arches = lists(entry, "includes", "arches");
        let not_arches = lists(entry, "excludes", "arches");
        (arches.is_empty() || arches.iter().any(|arch| arch == go_arch))
            && !not_arches.iter().any(|arch| arch == go_arch)
            && (all_caps || lists(entry, "includes", "caps").is_empty())
            && (!all_caps || lists(entry, "excludes", "caps").is_empty())
    };
    let own = native.profile_name().to_string();
    let archs: Vec<_> = template["archMap"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|map| map["architecture"] == own.as_str())
        .flat_map(|map| {
            let subs = map["subArchitectures"].as_array().cloned().unwrap_or_default();
            [map["architecture"].clone()].into_iter().chain(subs)
        })
        .collect();
    resolved["architectures"] = Value::Array(archs);
    if let Some(entries) = resolved["syscalls"].as_array_mut() {
        entries.retain(applies);
        for entry in entries {
            if entry["args"].is_null() {
                entry["args"] = Value::Array(Vec::new());
            }
        }
    }
    serde_json::from_value(resolved).expect("resolved profile")
}

#[test]
fn random_conditions_get_libseccomps_answers() {
    let Some(exporter) = Exporter::build("random") else {
        return;
    };
    const OPS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    const NAMES: [&str; 6] = ["read", "dup3", "prctl", "keyctl", "futex", "mmap"];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let numbers: Vec<_> = [Arch::X86_64, Arch::X86, Arch::X32]
        .into_iter()
        .flat_map(|arch| NAMES.map(|name| number(name, arch)))
        .collect();
    for round in 0..40 {
        let mut entries = Vec::new();
        for name in NAMES {
            // One rule per call: with several, the order inside libseccomp's tree shows.
            let mut args = Vec::new();
            for index in 0..3 {
                if random(2) == 0 {
                    continue;
                }
                let op = OPS[random(OPS.len())];
                let (a, b) = (VALUES[random(VALUES.len())], VALUES[random(VALUES.len())]);
                args.push(format!(
                    r#"{{"index": {index}, "value": {a}, "valueTwo": {b}, "op": "SCMP_CMP_{op}"}}"#
                ));
            }
            entries.push(format!(
                r#"{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW", "args": [{}]}}"#,
                args.join(",")
            ));
        }
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": {X86_FAMILY},
                "syscalls": [{}]}}"#,
            entries.join(",")
        );
        compare(
            &exporter,
            profile(&json),
            Arch::X86_64,
            &numbers,
            &format!("round {round}: {json}"),
        );
    }
}

#[test]
fn the_tables_agree_with_libseccomps() {
    let Some(exporter) = Exporter::build("tables") else {
        return;
    };
    for native in [Arch::X86_64, Arch::Aarch64] {
        let archs = if native == Arch::X86_64 { X86_FAMILY } else { ARM_FAMILY };
        // Each call has an errno of its own, so that a wrong number shows.
        // Its tables may lack, on some of its ABIs, calls that came after Linux 5.10.
        let entries: Vec<_> = syscalls::TABLE
            .iter()
            .enumerate()
            .filter(|(_, (_, numbers))| {
                numbers.iter().all(|nr| *nr < 440 || *nr >= 0xf000 || (512..548).contains(nr))
            })
            .map(|(index, (name, _))| {
                format!(
                    r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO", "errnoRet": {}}}"#,
                    index + 100
                )
            })
            .collect();
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": {archs}, "syscalls": [{}]}}"#,
            entries.join(",")
        );
        compare(&exporter, profile(&json), native, &all_numbers(), "one errno per call");
    }
}
