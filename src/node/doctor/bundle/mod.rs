//! One bundle: what `create` and `start` would fail with, without starting anything.

mod program;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::runtime::{Hook, Mount, Spec};

use super::report::{Report, Section};
use crate::cgroup::Cgroup;
use crate::container::bundle::{Bundle, BundleError};
use crate::container::decide::{self, Options};
use crate::container::id::ContainerId;
use crate::finding::Finding;
use crate::gpu;
use crate::gpu::Decision;
use crate::gpu::plan::Plan;
use crate::init::namespaces::NamespaceError;

/// `NSFS_MAGIC` (linux/magic.h): what a namespace's path leads to.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// For errors that name a field and say what is wrong with it.
const CORRECT: &str = "correct the field in config.json (docs/compatibility.md says what each \
                       takes), or the engine's option that it comes from";

/// Looks at the bundle in this directory. `systemd`: whether the engine passes `--systemd-cgroup`;
/// a `cgroupsPath` of systemd's form says so, too.
#[must_use]
pub fn check(path: &Path, systemd: bool) -> Report {
    let mut bundle = match Bundle::load(path) {
        Ok(bundle) => bundle,
        Err(error) => {
            let sections = vec![Section::new("Bundle", vec![unusable(&error)])];
            return Report { sections };
        }
    };
    let found = Finding::green("bundle", bundle.path.display().to_string());
    let mut sections = vec![Section::new("Bundle", vec![found, rootfs(&bundle.rootfs)])];
    // The hooks that the plan replaces are taken out here: those that stay are run.
    let decided = gpu::explain_for(&mut bundle.spec);
    let (gpus, decision) = match decided {
        Ok(None) => (vec![Finding::green("GPUs", "none are asked for")], None),
        Ok(Some(decision)) => (granted(&decision.plan), Some(decision)),
        Err(error) => {
            let hint = "gpurun doctor looks at the whole machine";
            (vec![Finding::error("GPUs", &error.to_string(), hint)], None)
        }
    };
    let is_decided = gpus.iter().all(|finding| finding.verdict.word() != "red");
    sections.push(Section::new("GPUs", gpus));
    sections.push(Section::new("Program", program::check(&bundle)));
    sections.push(Section::new("Mounts", mounts(&bundle)));
    sections.push(Section::new(
        "Hooks",
        hooks(&bundle.spec, decision.as_ref().map(|decision| &decision.plan)),
    ));
    sections.push(Section::new("Namespaces", namespaces(&bundle.spec)));
    let name = bundle.path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let id = ContainerId::parse(name).or_else(|_| ContainerId::parse("doctor"));
    if let Ok(id) = id
        && is_decided
    {
        let systemd = systemd || is_systemd_path(&bundle.spec);
        sections.push(Section::new("Create", rehearse(&id, bundle, decision, systemd)));
    }
    Report { sections }
}

fn unusable(error: &BundleError) -> Finding {
    let remedy = match error {
        BundleError::Directory { .. } => {
            "give the directory with config.json as --bundle; engines remove it when the \
             container's task ends (docker: /run/containerd/io.containerd.runtime.v2.task/moby/ID)"
        }
        BundleError::Read { .. } => "put a config.json there (gpurun spec writes one)",
        BundleError::Rootfs { .. } => {
            "unpack or mount the image there; engines unmount it when the container ends"
        }
        BundleError::Parse { .. } | BundleError::Invalid(_) => CORRECT,
    };
    Finding::error("bundle", &error.to_string(), remedy)
}

fn rootfs(path: &Path) -> Finding {
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    match is_empty {
        false => Finding::green("rootfs", path.display().to_string()),
        true => Finding::yellow(
            "rootfs",
            format!("{} is empty", path.display()),
            "unpack or mount the image there; engines unmount it when the container ends",
        ),
    }
}

fn granted(plan: &Plan) -> Vec<Finding> {
    let gpus: Vec<_> = plan
        .grants
        .iter()
        .map(|grant| format!("{} {} ({})", grant.kind, grant.index, grant.model))
        .collect();
    let found = match gpus.is_empty() {
        true => format!("{} devices, {} files", plan.devices.len(), plan.files.len()),
        false => gpus.join(", "),
    };
    let notes = plan.notes.iter().map(|note| {
        Finding::error("note", note, "nothing, where the container does without").softened()
    });
    std::iter::once(Finding::green("GPUs", found)).chain(notes).collect()
}

/// Whether the sources of bind mounts are there.
fn mounts(bundle: &Bundle) -> Vec<Finding> {
    let all = bundle.spec.mounts().as_deref().unwrap_or_default();
    let is_bind = |mount: &&Mount| {
        let option = |option: &String| option == "bind" || option == "rbind";
        mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(option)
    };
    let mut findings: Vec<_> = all
        .iter()
        .filter(is_bind)
        .filter_map(|mount| {
            let source = bundle.path.join(mount.source().as_ref()?);
            let error = std::fs::symlink_metadata(&source).and_then(|_| source.metadata()).err()?;
            let found = format!(
                "source {} of {}: {error}",
                source.display(),
                mount.destination().display()
            );
            Some(match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    Finding::unseen("mount", found, "sudo gpurun doctor")
                }
                _ => Finding::red("mount", found, "make it, or take the mount away"),
            })
        })
        .collect();
    if findings.is_empty() && !all.is_empty() {
        findings.push(Finding::green("mounts", format!("{} with their sources", all.len())));
    }
    findings
}

/// Whether the hooks that are run are there. Those of the phase startContainer run inside.
fn hooks(spec: &Spec, plan: Option<&Plan>) -> Vec<Finding> {
    let mut all: Vec<(&str, &Hook)> = Vec::new();
    if let Some(hooks) = spec.hooks() {
        #[allow(deprecated)]
        let phases = [
            ("prestart", hooks.prestart()),
            ("createRuntime", hooks.create_runtime()),
            ("createContainer", hooks.create_container()),
            ("poststart", hooks.poststart()),
            ("poststop", hooks.poststop()),
        ];
        for (phase, list) in phases {
            all.extend(list.iter().flatten().map(|hook| (phase, hook)));
        }
    }
    let planned = plan.map(|plan| plan.hooks.as_slice()).unwrap_or_default();
    all.extend(planned.iter().map(|(phase, hook)| (phase.as_str(), hook)));
    let mut findings: Vec<_> = all
        .iter()
        .filter_map(|(phase, hook)| {
            let path = hook.path();
            let reason = match path.metadata() {
                Err(error) => error.to_string(),
                Ok(meta) if !meta.is_file() => "it is no file".to_owned(),
                Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
                    "it is not executable".to_owned()
                }
                Ok(_) => return None,
            };
            Some(Finding::red(
                "hook",
                format!("{phase} hook {}: {reason}", path.display()),
                "install the program that the hook names, or take the hook away where it comes \
                 from (the engine's hook directory, a CDI file)",
            ))
        })
        .collect();
    if findings.is_empty() && !all.is_empty() {
        findings.push(Finding::green("hooks", format!("{} are there", all.len())));
    }
    for hook in plan.iter().flat_map(|plan| &plan.absorbed_hooks) {
        let found = format!("{} {}: {}", hook.phase, hook.path.display(), hook.instead);
        findings.push(Finding::green("hook not run", found));
    }
    findings
}

/// Whether the namespaces to join are namespaces still.
fn namespaces(spec: &Spec) -> Vec<Finding> {
    let linux = spec.linux().as_ref();
    let all = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let joined = all.iter().filter_map(|one| Some((one.typ(), one.path().as_deref()?)));
    joined
        .filter(|(_, path)| !path.as_os_str().is_empty())
        .filter_map(|(kind, path)| {
            // What is absent is said by the rehearsal.
            let found = rustix::fs::statfs(path).ok()?;
            #[allow(clippy::unnecessary_cast)]
            let is_namespace = found.f_type as i64 == NSFS_MAGIC;
            (!is_namespace).then(|| {
                Finding::red(
                    "namespace",
                    format!("{} is no {kind} namespace", path.display()),
                    GONE,
                )
            })
        })
        .collect()
}

/// What to do about a namespace that has ended.
const GONE: &str = "its pod or container has ended: start that again";

fn is_systemd_path(spec: &Spec) -> bool {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    let text = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    text.split(':').count() == 3 && !text.contains('/')
}

/// The decision of `create` about everything else.
fn rehearse(
    id: &ContainerId,
    bundle: Bundle,
    decision: Option<Decision>,
    systemd_cgroup: bool,
) -> Vec<Finding> {
    let path = bundle.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let apparmor = apparmor(&bundle.spec);
    let options = Options { systemd_cgroup, ..Options::default() };
    let mut findings = match decide::rehearse(id, bundle, decision, &options) {
        Ok(warnings) => {
            let ignored = "nothing, where the container does without";
            let mut all = vec![Finding::green("create", "would go as far as making the cgroup")];
            all.extend(warnings.iter().map(|one| Finding::yellow("warning", one, ignored)));
            all
        }
        Err(error) => {
            let remedy = match error.downcast_ref() {
                Some(NamespaceError::Open { .. }) => GONE,
                _ => CORRECT,
            };
            vec![Finding::error("create", &crate::log::one_line(&error), remedy)]
        }
    };
    findings.extend(apparmor);
    let cgroup = Cgroup::locate(path.as_deref(), id.as_str(), systemd_cgroup);
    if let (Ok(cgroup), Some(path)) = (cgroup, path)
        && cgroup.exists()
        && cgroup.pids().is_ok_and(|pids| !pids.is_empty())
    {
        findings.push(Finding::yellow(
            "cgroup",
            format!("{} has processes: this container's, or another's", path.display()),
            "if the container does not run: end them, or give it another linux.cgroupsPath",
        ));
    }
    findings
}

/// A profile is put in force by the init: too late for a remedy.
fn apparmor(spec: &Spec) -> Option<Finding> {
    let process = spec.process().as_ref()?;
    let profile = process
        .apparmor_profile()
        .as_deref()
        .filter(|name| !name.is_empty() && *name != "unconfined")?;
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with('Y')) {
        return Some(Finding::red(
            "AppArmor",
            format!("profile {profile} is asked for, and the kernel has AppArmor off"),
            "take process.apparmorProfile away, or boot with apparmor=1 security=apparmor",
        ));
    }
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").ok()?;
    let has =
        loaded.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile));
    (!has).then(|| {
        Finding::red(
            "AppArmor",
            format!("profile {profile} is not loaded"),
            "apparmor_parser -r its file, or restart the engine that loads it",
        )
    })
}
