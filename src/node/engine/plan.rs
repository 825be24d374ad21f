//! From a wish to the changes of the machine's files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::places::{self, Form, Place};
use super::{Engine, Ours, TextError, Wish, containerd, crio, docker, podman, template};
use crate::node::change::{self, Change};
use crate::node::machine::{FileError, Machine};

/// What will be done for one engine.
#[derive(Debug, Default)]
pub struct Plan {
    /// The files, also those that are right as they are.
    pub changes: Vec<Change>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether anything is to be done.
    pub fn is_needed(&self) -> bool {
        self.changes.iter().any(Change::is_needed)
    }
}

/// Why an engine's configuration cannot be changed. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of the machine.
    #[error(transparent)]
    File(#[from] FileError),
    /// What a file says.
    #[error("{}: {source}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TextError,
    },
}

impl EngineError {
    /// Names the file whose text it was.
    pub fn in_file(machine: &Machine, path: &Path) -> impl FnOnce(TextError) -> Self + use<> {
        let path = machine.shown(path);
        move |source| Self::Text { path, source }
    }
}

/// Makes gpurun a runtime of the engine. `file`: the file to change instead of the engine's usual
/// one.
///
/// # Errors
/// A file that cannot be read, or is not what the engine would read.
pub fn configure(
    engine: Engine,
    wish: &Wish,
    machine: &Machine,
    file: Option<&Path>,
) -> Result<Plan, EngineError> {
    let place = match file {
        Some(file) => named(engine, file),
        None => places::find(engine, machine)?,
    };
    let before = machine.text(&place.file)?;
    let ends = LineEnds::of(before.as_deref().unwrap_or_default());
    let text = &*ends.unix(before.as_deref().unwrap_or_default());
    let others = others(&place, machine)?;
    let edit = || match (engine, &place.form) {
        (Engine::Docker, _) => docker::add(text, wish),
        (Engine::Crio, _) => crio::add(text, &others, wish),
        (Engine::Podman, _) => podman::add(text, &others, wish),
        (_, Form::Main) => containerd::add(text, wish, containerd::version_for(place.containerd)),
        (_, Form::DropIn(_)) => {
            containerd::drop_in(text, others.first().map_or("", |main| main), wish)
        }
        (_, Form::Template { .. }) => {
            let made = others.first().map_or("", |made| made);
            let own = template::ours(text);
            let mut taken = containerd::runtimes(made)?;
            taken.retain(|name| !own.contains(name));
            let is_new = place.file.file_name().is_some_and(|name| name == "config-v3.toml.tmpl");
            let plugin = containerd::plugin_of(if is_new { 3 } else { 2 });
            template::add(before.as_ref().map(|_| text), wish, plugin, &taken)
        }
    };
    let in_file = EngineError::in_file(machine, &place.file);
    let after = ends.back(edit().map_err(in_file)?);
    let it = Ours { binary: wish.binary.clone() };
    // Names that were taken over from others since the last time are to be given back as well.
    let original = change::original(machine, &place.file)?;
    let backup = match &before {
        Some(text) => without(engine, &place.form, text, original.as_deref(), &it)
            .map_err(EngineError::in_file(machine, &place.file))?,
        None => None,
    };
    let mut plan = Plan { notes: place.note.clone().into_iter().collect(), ..Plan::default() };
    let is_containerd = engine == Engine::Containerd && place.form == Form::Main;
    if is_containerd && containerd::is_disabled(&after).unwrap_or_default() {
        plan.notes.push(format!(
            "disabled_plugins of {} turns the CRI plugin off: Kubernetes cannot use this containerd",
            place.file.display()
        ));
    }
    plan.changes.push(Change { path: place.file, after: Some(after), backup, before });
    Ok(plan)
}

/// Takes gpurun out of the engine's files: what stood there before its first change stands there
/// again, and what others changed since stays.
///
/// # Errors
/// A file that cannot be read, or is not what the engine would read.
pub fn unconfigure(
    engine: Engine,
    it: &Ours,
    machine: &Machine,
    file: Option<&Path>,
) -> Result<Plan, EngineError> {
    let places = match file {
        Some(file) => vec![named(engine, file)],
        None => places::all(engine, machine)?,
    };
    let mut plan = Plan::default();
    for Place { file, form, .. } in places {
        let Some(text) = machine.text(&file)? else { continue };
        let original = change::original(machine, &file)?;
        let after = without(engine, &form, &text, original.as_deref(), it)
            .map_err(EngineError::in_file(machine, &file))?;
        plan.changes.push(Change { path: file, before: Some(text), after, backup: None });
    }
    Ok(plan)
}

/// A text without gpurun. `None`: nothing is left of it.
pub(super) fn without(
    engine: Engine,
    form: &Form,
    text: &str,
    original: Option<&str>,
    it: &Ours,
) -> Result<Option<String>, TextError> {
    let ends = LineEnds::of(text);
    let given = text;
    let (text, original) = (&*ends.unix(text), original.map(|original| ends.unix(original)));
    if names(engine, form, text, it)?.is_empty() {
        return Ok(Some(given.to_owned()));
    }
    let original = original.as_deref();
    let left = match (engine, form) {
        (Engine::Docker, _) => docker::remove(text, original, it)?,
        (Engine::Crio, _) => crio::remove(text, original, it)?,
        (Engine::Podman, _) => podman::remove(text, original, it)?,
        (_, Form::Template { .. }) => template::remove(text, original),
        _ => containerd::remove(text, original, it)?,
    };
    Ok(left.map(|left| ends.back(left)))
}

/// How the lines of a text end: edits are made of lines that end as Unix has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnds {
    Unix,
    Windows,
}

impl LineEnds {
    pub(super) fn of(text: &str) -> Self {
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).peekable();
        let is_windows = lines.peek().is_some() && lines.all(|line| line.ends_with("\r\n"));
        if is_windows { Self::Windows } else { Self::Unix }
    }

    pub(super) fn unix(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Unix => Cow::Borrowed(text),
            Self::Windows => Cow::Owned(text.replace("\r\n", "\n")),
        }
    }

    pub(super) fn back(self, text: String) -> String {
        match self {
            Self::Unix => text,
            Self::Windows => text.replace('\n', "\r\n"),
        }
    }
}

/// A file that a person named.
fn named(engine: Engine, file: &Path) -> Place {
    let is_template = file.extension().is_some_and(|ending| ending == "tmpl");
    let made = file.with_file_name("config.toml");
    let form = match engine {
        Engine::K3s | Engine::Rke2 if is_template => Form::Template { made },
        _ => Form::Main,
    };
    Place { file: file.to_owned(), form, containerd: None, note: None }
}

fn others(place: &Place, machine: &Machine) -> Result<Vec<String>, FileError> {
    let files = match &place.form {
        Form::Main => &[][..],
        Form::DropIn(others) => others,
        Form::Template { made } => std::slice::from_ref(made),
    };
    files.iter().filter_map(|file| machine.text(file).transpose()).collect()
}

/// The names under which the text has gpurun.
pub(super) fn names(
    engine: Engine,
    form: &Form,
    text: &str,
    it: &Ours,
) -> Result<Vec<String>, TextError> {
    match (engine, form) {
        (Engine::Docker, _) => docker::ours(text, it),
        (Engine::Crio, _) => crio::ours(text, it),
        (Engine::Podman, _) => podman::ours(text, it),
        (_, Form::Template { .. }) => Ok(template::ours(text)),
        _ => containerd::ours(text, it),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
