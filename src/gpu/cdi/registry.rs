//! The CDI files of a machine: directories, priorities, conflicts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::name::QualifiedName;
use super::spec::{CdiSpec, ContainerEdits};
use crate::host::{HostError, Tree};

/// The directories, lowest priority first, when the configuration names none.
pub const DEFAULT_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// A CDI file of a machine with hundreds of devices has some hundred kilobytes.
const MAX_FILE: usize = 16 << 20;

/// A file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CDI file {}: {}", self.path.display(), self.reason)
    }
}

/// A file that can be used.
#[derive(Debug)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// The place of its directory in the list; higher wins.
    pub priority: usize,
    /// Its content, valid.
    pub spec: CdiSpec,
}

/// Which file defines a device.
#[derive(Debug, Clone)]
enum Definition {
    In(Rc<File>),
    /// Two files of one priority do: nobody can say which is meant.
    Conflict {
        priority: usize,
    },
}

/// Every device that the machine's files define.
#[derive(Debug, Default)]
pub struct Registry {
    files: Vec<Rc<File>>,
    devices: BTreeMap<QualifiedName, Definition>,
    problems: Vec<Problem>,
}

/// Names that stand for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unresolvable CDI devices {}{}", list(.names), hints(.problems))]
pub struct Unresolvable {
    /// The names, in the order of the request.
    pub names: Vec<QualifiedName>,
    /// The files that could not be used, one of which may define them.
    pub problems: Vec<Problem>,
}

fn list(names: &[QualifiedName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn hints(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "; no CDI file defines them (`gpurun cdi list` shows what files define)".to_owned();
    }
    problems.iter().map(|problem| format!("; {problem}")).collect()
}

/// What a resolved name brings.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// Where the edits come from.
    pub file: &'a Path,
    /// The name; `None`: the edits that all devices of the file share.
    pub device: Option<&'a str>,
    /// The edits.
    pub edits: &'a ContainerEdits,
}

impl Registry {
    /// Reads the `.json` and `.yaml` files directly in the directories, lowest priority first. A
    /// file that cannot be used is remembered as a problem; the others count all the same.
    ///
    /// # Errors
    /// A directory that exists and cannot be listed.
    pub fn read(dirs: &[PathBuf]) -> Result<Self, HostError> {
        let mut registry = Self::default();
        // Files there are often links to where an installer keeps them.
        let host = Tree::open(Path::new("/"))?;
        for (priority, dir) in dirs.iter().enumerate() {
            for name in host.names(dir)? {
                let path = dir.join(&name);
                if matches!(path.extension().and_then(|e| e.to_str()), Some("json" | "yaml")) {
                    registry.add_file(&host, path, priority);
                }
            }
        }
        Ok(registry)
    }

    fn add_file(&mut self, host: &Tree, path: PathBuf, priority: usize) {
        let text = match host.read(&path, MAX_FILE + 1) {
            Ok(Some(bytes)) if bytes.len() > MAX_FILE => {
                Err(format!("it is larger than {MAX_FILE} bytes"))
            }
            Ok(Some(bytes)) => {
                String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
            }
            // Gone since the directory was listed, or a link to nowhere.
            Ok(None) => Err("it does not exist".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let spec = text.and_then(|text| CdiSpec::parse(&text)).and_then(|spec| {
            spec.validate()?;
            Ok(spec)
        });
        match spec {
            Ok(spec) => self.add(path, priority, spec),
            Err(reason) => self.problems.push(Problem { path, reason }),
        }
    }

    /// Adds a valid file. Files must come in the order of their priorities.
    pub(super) fn add(&mut self, path: PathBuf, priority: usize, spec: CdiSpec) {
        let file = Rc::new(File { path, priority, spec });
        for device in &file.spec.devices {
            let name = QualifiedName { kind: file.spec.kind.clone(), device: device.name.clone() };
            let definition = match self.devices.get(&name) {
                Some(Definition::In(other)) if other.priority == priority => {
                    let pair = [(&file.path, &other.path), (&other.path, &file.path)];
                    for (path, rival) in pair {
                        self.problems.push(Problem {
                            path: path.clone(),
                            reason: format!("{name} is also defined in {}", rival.display()),
                        });
                    }
                    Definition::Conflict { priority }
                }
                Some(Definition::Conflict { priority: at }) if *at == priority => {
                    self.problems.push(Problem {
                        path: file.path.clone(),
                        reason: format!("{name} is also defined in another file"),
                    });
                    Definition::Conflict { priority }
                }
                _ => Definition::In(Rc::clone(&file)),
            };
            self.devices.insert(name, definition);
        }
        self.files.push(file);
    }

    /// The names of all devices that can be asked for, sorted.
    pub fn names(&self) -> impl Iterator<Item = &QualifiedName> {
        let usable = |definition: &Definition| matches!(definition, Definition::In(_));
        self.devices.iter().filter(move |(_, definition)| usable(definition)).map(|(name, _)| name)
    }

    /// The usable files, lowest priority first.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().map(AsRef::as_ref)
    }

    /// The files that could not be used, or not wholly.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The file that defines a device.
    #[must_use]
    pub fn file_of(&self, name: &QualifiedName) -> Option<&File> {
        match self.devices.get(name)? {
            Definition::In(file) => Some(file),
            Definition::Conflict { .. } => None,
        }
    }

    /// The edits of these devices in the order in which they apply: for each device, what its
    /// file has for all of them when the file is met first, then its own. A name that is there
    /// twice counts once.
    ///
    /// # Errors
    /// Names that no file defines; nothing of the others is to be applied then.
    pub fn resolve(&self, names: &[QualifiedName]) -> Result<Vec<Resolved<'_>>, Unresolvable> {
        let missing: Vec<_> =
            names.iter().filter(|name| self.file_of(name).is_none()).cloned().collect();
        if !missing.is_empty() {
            return Err(Unresolvable { names: missing, problems: self.problems.clone() });
        }
        let mut resolved: Vec<Resolved<'_>> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|earlier| earlier == name) {
                continue;
            }
            let Some(file) = self.file_of(name) else { continue };
            let Some(device) = file.spec.device(&name.device) else { continue };
            if resolved.iter().all(|known| known.file != file.path) {
                resolved.push(Resolved {
                    file: &file.path,
                    device: None,
                    edits: &file.spec.container_edits,
                });
            }
            resolved.push(Resolved {
                file: &file.path,
                device: Some(&device.name),
                edits: &device.container_edits,
            });
        }
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    fn spec(kind: &str, devices: &[&str], mark: &str) -> String {
        let devices: Vec<String> = devices
            .iter()
            .map(|name| {
                format!(r#"{{"name": "{name}", "containerEdits": {{"env": ["D={mark}-{name}"]}}}}"#)
            })
            .collect();
        format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "{kind}", "devices": [{}],
                "containerEdits": {{"env": ["F={mark}"]}}}}"#,
            devices.join(",")
        )
    }

    fn read(scratch: &Scratch, dirs: &[&str]) -> Registry {
        let dirs: Vec<PathBuf> = dirs.iter().map(|dir| scratch.path().join(dir)).collect();
        Registry::read(&dirs).unwrap()
    }

    fn name(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn env(registry: &Registry, names: &[&str]) -> Result<Vec<String>, Unresolvable> {
        let names: Vec<QualifiedName> = names.iter().map(|text| name(text)).collect();
        let resolved = registry.resolve(&names)?;
        Ok(resolved.iter().flat_map(|one| one.edits.env.clone()).collect())
    }

    #[test]
    fn a_files_own_edits_come_once_before_its_first_device() {
        let scratch = Scratch::new();
        scratch.write("etc/a.json", spec("v/a", &["0", "1"], "a"));
        scratch.write("etc/b.yaml", spec("v/b", &["0"], "b"));
        let registry = read(&scratch, &["etc", "absent"]);
        assert_eq!(
            env(&registry, &["v/a=1", "v/b=0", "v/a=0", "v/a=1"]).unwrap(),
            ["F=a", "D=a-1", "F=b", "D=b-0", "D=a-0"]
        );
        let names: Vec<String> = registry.names().map(ToString::to_string).collect();
        assert_eq!(names, ["v/a=0", "v/a=1", "v/b=0"]);
    }

    #[test]
    fn a_directory_of_higher_priority_wins() {
        let scratch = Scratch::new();
        scratch.write("etc/a.json", spec("v/c", &["0", "1"], "low"));
        scratch.write("run/z.json", spec("v/c", &["0"], "high"));
        let registry = read(&scratch, &["etc", "run"]);
        assert_eq!(
            env(&registry, &["v/c=0", "v/c=1"]).unwrap(),
            ["F=high", "D=high-0", "F=low", "D=low-1"]
        );
        assert!(registry.problems().is_empty());
    }

    #[test]
    fn two_files_of_one_directory_make_their_common_device_unusable_and_nothing_else() {
        let scratch = Scratch::new();
        scratch.write("etc/a.json", spec("v/c", &["0", "1"], "a"));
        scratch.write("etc/b.json", spec("v/c", &["0", "2"], "b"));
        let registry = read(&scratch, &["etc"]);
        assert_eq!(env(&registry, &["v/c=1", "v/c=2"]).unwrap().len(), 4);
        let error = env(&registry, &["v/c=0"]).unwrap_err().to_string();
        assert!(error.starts_with("unresolvable CDI devices v/c=0; CDI file "), "{error}");
        assert!(error.contains("v/c=0 is also defined in "), "{error}");
        // A directory above settles it.
        scratch.write("run/c.json", spec("v/c", &["0"], "c"));
        assert!(env(&read(&scratch, &["etc", "run"]), &["v/c=0"]).is_ok());
    }

    #[test]
    fn a_bad_file_does_not_spoil_the_others() {
        let scratch = Scratch::new();
        scratch.write("etc/good.json", spec("v/c", &["0"], "a"));
        scratch.write("etc/broken.yaml", "kind: [");
        scratch.write("etc/empty.json", "");
        scratch.write("etc/notes.txt", "not looked at");
        scratch.write("etc/other.yml", "not looked at");
        scratch.write("etc/below/x.json", "not looked at");
        scratch.link("/nowhere", "etc/dangling.json");
        let registry = read(&scratch, &["etc"]);
        assert!(env(&registry, &["v/c=0"]).is_ok());
        let files: Vec<&str> = registry
            .problems()
            .iter()
            .filter_map(|problem| problem.path.file_name()?.to_str())
            .collect();
        assert_eq!(files, ["broken.yaml", "dangling.json", "empty.json"]);
        let error = env(&registry, &["v/c=0", "v/c=9", "w/c=0"]).unwrap_err();
        assert!(
            error.to_string().starts_with("unresolvable CDI devices v/c=9, w/c=0; "),
            "{error}"
        );
    }

    #[test]
    fn a_directory_named_like_a_file_is_a_problem_not_a_failure() {
        let scratch = Scratch::new();
        scratch.write("etc/dir.json/x", "");
        let registry = read(&scratch, &["etc"]);
        assert_eq!(registry.problems().len(), 1);
    }
}
