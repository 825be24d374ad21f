//! gpurun as the hook of another runtime.
//!
//! A CDI file of gpurun's (`crate::gpu::cdi::generate`) leaves to hooks what has to be done in the
//! container's filesystem. When gpurun is the runtime it takes them out of the spec and does their
//! work; here another runtime has created the container and calls them, and the same work is done
//! by the same code (`crate::init::gpu`), from within the container's mount namespace and before
//! the root is changed. Nothing is executed, and nothing that an image can set counts: not the
//! environment, not the working directory, no path of the rootfs.
//!
//! The hooks of one container are not independent: the loader's cache needs the links, and the
//! image's newer libraries their place before the driver's. So the last of them does the work of
//! all, and those before it nothing.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Hook, HookBuilder, Spec};
use serde::Deserialize;

use super::bundle::Bundle;
use super::sealed;
use crate::gpu::absorb::{self, Substitute};
use crate::gpu::plan::Plan;
use crate::gpu::{self, loader};
use crate::host::Host;
use crate::init::gpu::apply;
use crate::init::journal::Journal;
use crate::init::root::Root;
use crate::log;

/// A container's state with its annotations is far smaller.
const STATE_LIMIT: u64 = 4 << 20;

/// What a hook is told about the container ([runtime-spec, "State"]).
///
/// [runtime-spec, "State"]: https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state
#[derive(Debug, Deserialize)]
struct State {
    bundle: PathBuf,
}

/// The hook as it was called.
#[derive(Debug)]
pub struct Called {
    /// The words after the program's name, from the command on.
    pub words: Vec<String>,
}

impl Called {
    /// The last value of an option of the hook, also as `--name=value`.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let mut found = None;
        let mut words = self.words.iter().skip(1);
        while let Some(word) = words.next() {
            let Some(word) = word.strip_prefix('-') else { continue };
            let word = word.strip_prefix('-').unwrap_or(word);
            match word.split_once('=') {
                Some((known, value)) if known == name => found = Some(value),
                Some(_) => {}
                None => {
                    let value = words.next();
                    if word == name {
                        found = value.map(String::as_str);
                    }
                }
            }
        }
        found.filter(|value| !value.is_empty())
    }
}

/// Does the work of the hook.
///
/// # Errors
/// It is not understood, the container cannot be found, or something could not be done in it. A
/// command that nobody knows is passed over with a warning: whoever made the CDI file may be newer.
pub fn run(called: &Called) -> Result<()> {
    let command = called.words.first().context(
        "no command: hooks of CDI files call gpurun hook with one, such as update-ldcache",
    )?;
    if !absorb::is_hook_command(command) {
        log::to_stderr(&format!("hook {command:?} is not known: nothing is done"));
        return Ok(());
    }
    // The container's processes may see this one.
    sealed::seal()?;
    let state = state(called.option("container-spec"))?;
    let bundle = Bundle::of_another_runtime(&state.bundle)?;
    let substitutes = due(called, &bundle.spec)?;
    if substitutes.iter().all(|one| one.is_nothing()) {
        return Ok(());
    }
    refuse_outside()?;
    let settings = gpu::settings_of(called.option("config").map(Path::new))?;
    let host = Host::from_settings(&settings)?;
    let mut plan = Plan::default();
    for substitute in &substitutes {
        substitute.plan(&bundle.spec, &host, &mut plan)?;
    }
    loader::mounted::add(&bundle.spec, &mut plan)?;
    let root = Root::open(&bundle.rootfs)
        .with_context(|| format!("cannot open the rootfs {}", bundle.rootfs.display()))?;
    // The other runtime deletes the container; what had to be created in its image stays.
    let label = bundle.spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    apply(&plan, &root, label, &mut Journal::none())?;
    Ok(())
}

fn state(file: Option<&str>) -> Result<State> {
    let mut bytes = Vec::new();
    let mut limited = |from: &mut dyn Read| from.take(STATE_LIMIT + 1).read_to_end(&mut bytes);
    match file {
        None | Some("-") => limited(&mut std::io::stdin()).context("cannot read the state")?,
        Some(path) => File::open(path)
            .and_then(|mut file| limited(&mut file))
            .with_context(|| format!("cannot read the state {path}"))?,
    };
    if bytes.len() as u64 > STATE_LIMIT {
        bail!("the container's state is larger than 4 MiB");
    }
    let state: State = serde_json::from_slice(&bytes).context(
        "the standard input is no container's state: runtimes call gpurun hook, as a \
         createContainer hook",
    )?;
    if !state.bundle.is_absolute() {
        bail!("the container's state names no absolute bundle: {:?}", state.bundle);
    }
    Ok(state)
}

/// What to do now: the work of all hooks of the container that run this program when this is the
/// last of them, and nothing before. A hook that the spec does not list does its own.
pub(super) fn due(called: &Called, spec: &Spec) -> Result<Vec<Box<dyn Substitute>>> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref());
    let hooks: Vec<&Hook> = hooks.into_iter().flatten().collect();
    let Some(own) = hooks.iter().rfind(|hook| is_called(hook, called)) else {
        let substitute = absorb::substitute(&alone(called)?);
        return Ok(vec![substitute.with_context(|| {
            format!("hook {}: its options are not understood", called.words.join(" "))
        })?]);
    };
    let ours: Vec<(&Hook, Option<Box<dyn Substitute>>)> = hooks
        .iter()
        .filter(|hook| hook.path() == own.path())
        .map(|hook| (*hook, absorb::substitute(hook)))
        .filter(|(hook, known)| known.is_some() || is_known(hook))
        .collect();
    let is_last = ours.last().is_some_and(|(hook, _)| is_called(hook, called));
    let mut due = Vec::new();
    for (hook, substitute) in ours {
        let words = || hook.args().as_deref().unwrap_or_default().join(" ");
        let substitute = substitute
            .with_context(|| format!("hook {}: its options are not understood", words()))?;
        due.push(substitute);
    }
    Ok(if is_last { due } else { Vec::new() })
}

/// Whether a hook of the spec is this call.
fn is_called(hook: &Hook, called: &Called) -> bool {
    let args = hook.args().as_deref().unwrap_or_default();
    args.len() > called.words.len() && args.ends_with(&called.words)
}

/// Whether a hook has one of the commands, whatever its options.
fn is_known(hook: &Hook) -> bool {
    let args = hook.args().as_deref().unwrap_or_default();
    args.iter().skip(1).take(2).any(|word| absorb::is_hook_command(word))
}

/// The call as a hook of a spec.
fn alone(called: &Called) -> Result<Hook> {
    let own = ["gpurun", "hook"].map(str::to_owned);
    let args: Vec<String> = own.into_iter().chain(called.words.iter().cloned()).collect();
    Ok(HookBuilder::default().path("/gpurun").args(args).build()?)
}

/// Refuses to mount on the machine itself, where a hook of another phase would leave its mounts.
/// The state's pid does not help: runc gives the one that the container's own processes see.
fn refuse_outside() -> Result<()> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    // Not everyone may look at the first process.
    if let (Ok(own), Ok(first)) = (namespace("self"), namespace("1"))
        && own == first
    {
        bail!("not in a container's mount namespace: gpurun hook must be a createContainer hook");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn called(words: &[&str]) -> Called {
        Called { words: words.iter().map(|&word| word.to_owned()).collect() }
    }

    fn spec(hooks: &[(&str, &[&str])]) -> Spec {
        let hooks: Vec<_> =
            hooks.iter().map(|(path, args)| json!({"path": path, "args": args})).collect();
        serde_json::from_value(json!({
            "ociVersion": "1.0.2", "hooks": {"createContainer": hooks}
        }))
        .unwrap()
    }

    #[test]
    fn the_last_hook_does_the_work_of_all_and_the_others_nothing() {
        let links = ["gpurun", "hook", "create-symlinks", "--link", "a::/b"];
        let cache = ["gpurun", "hook", "update-ldcache", "--folder", "/l"];
        let spec = spec(&[
            ("/usr/bin/gpurun", &links),
            ("/usr/bin/other", &["other", "update-ldcache"]),
            ("/usr/bin/gpurun", &cache),
            ("/usr/bin/gpurun", &["gpurun", "hook", "invented-tomorrow"]),
            ("/usr/bin/nvidia-cdi-hook", &["nvidia-cdi-hook", "update-application-profile"]),
        ]);
        assert_eq!(due(&called(&links[2..]), &spec).unwrap().len(), 0);
        assert_eq!(due(&called(&cache[2..]), &spec).unwrap().len(), 2);
        assert_eq!(due(&called(&["update-application-profile"]), &spec).unwrap().len(), 1);
    }

    #[test]
    fn a_hook_that_the_spec_does_not_list_does_its_own_work() {
        let spec = spec(&[]);
        assert_eq!(due(&called(&["update-ldcache", "--folder", "/l"]), &spec).unwrap().len(), 1);
        let error = due(&called(&["create-symlinks", "--link", "x"]), &spec).unwrap_err();
        assert!(error.to_string().contains("create-symlinks --link x"), "{error}");
    }

    #[test]
    fn options_are_read_in_both_spellings_and_the_last_counts() {
        let called = called(&["c", "--config=/a", "--folder", "--config", "--config", "/b"]);
        assert_eq!(called.option("config"), Some("/b"));
        assert_eq!(called.option("container-spec"), None);
    }
}
