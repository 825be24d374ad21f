//! The configuration file: found, parsed, and read key by key with line numbers in the errors.
//!
//! The file is optional, its keys are not guessed at: an unknown table, an unknown key or a value
//! of the wrong type is an error that names the line. `docs/configuration.md` lists every key.

use std::borrow::Cow;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, Table, TableLike};

use super::cache::is_machines_root;
use super::predecessor::{Entry, Fallback, Predecessor};
use super::trust::{self, Other};

/// Where the file is when the environment does not say otherwise.
pub const DEFAULT_PATH: &str = "/etc/gpurun/config.toml";

/// The environment variable that names another file.
pub const PATH_VARIABLE: &str = "GPURUN_CONFIG";

/// The configuration file is never larger than this.
const MAX_SIZE: usize = 1 << 20;

/// What is wrong with the configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than root can write a file that says what root runs.
    #[error(
        "configuration file {}: {fault}, and root runs what it names; {remedy} {}",
        path.display(), path.display()
    )]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Who can write it.
        fault: String,
        /// The command that makes it root's alone.
        remedy: &'static str,
    },
    /// The file is larger than any configuration.
    #[error("configuration file {}: larger than {MAX_SIZE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("configuration file {} line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The parser's words.
        reason: String,
    },
    /// A key that gpurun does not know.
    #[error("configuration file {} line {line}: unknown key {key:?}; known here: {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, with its table.
        key: String,
        /// The keys that exist in this place.
        known: String,
    },
    /// A value that cannot be used.
    #[error("configuration file {} line {line}: {key} must be {wanted}, not {found}", path.display())]
    WrongValue {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key, with its table.
        key: String,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
}

/// The parsed file. An absent default file is an empty one.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    document: Document<String>,
    /// Other programs' files, for what this one does not set.
    fallbacks: Vec<Fallback>,
}

impl Settings {
    /// Reads the file that `GPURUN_CONFIG` names, or [`DEFAULT_PATH`] when it exists.
    ///
    /// `tables` are the tables that some room reads; any other is an error.
    pub fn load(tables: &[&str]) -> Result<Self, ConfigError> {
        let named = std::env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty());
        Self::of(named.as_deref().map(Path::new), tables)
    }

    /// Reads this file, or [`DEFAULT_PATH`] when it exists.
    pub fn of(file: Option<&Path>, tables: &[&str]) -> Result<Self, ConfigError> {
        match file {
            Some(path) => Self::read(path, tables),
            None => match Self::read(Path::new(DEFAULT_PATH), tables) {
                Err(ConfigError::Read { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Self::parse(Path::new(DEFAULT_PATH), String::new(), tables)
                }
                other => other,
            },
        }
    }

    /// Reads this file, which must exist.
    pub fn read(path: &Path, tables: &[&str]) -> Result<Self, ConfigError> {
        Self::read_unchecked(path)?.checked(tables)
    }

    /// Lets a file of a program that gpurun replaces fill in what this one does not set.
    ///
    /// # Errors
    /// [`ConfigError`] when the file exists and cannot be read: it may hold a policy.
    pub fn with_predecessor(
        mut self,
        predecessor: &'static Predecessor,
    ) -> Result<Self, ConfigError> {
        let chosen = self.section(predecessor.table)?.string(predecessor.key)?;
        self.fallbacks.extend(Fallback::read(predecessor, chosen)?);
        Ok(self)
    }

    /// As [`Settings::with_predecessor`], with the text of the other file.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn with_fallback_text(
        mut self,
        predecessor: &'static Predecessor,
        text: &str,
    ) -> Result<Self, ConfigError> {
        self.fallbacks.push(Fallback::of_text(predecessor, text)?);
        Ok(self)
    }

    /// Reads a file that may have any key.
    pub(super) fn read_unchecked(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
        let mut text = String::new();
        // A FIFO must not keep the caller waiting for its writer.
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(std::io::Error::other("it is no regular file")));
        }
        if let Some((fault, remedy)) = distrust(&metadata)
            && is_machines_root()
        {
            return Err(ConfigError::Untrusted { path: path.to_path_buf(), fault, remedy });
        }
        std::io::Read::read_to_string(
            &mut std::io::Read::take(file, MAX_SIZE as u64 + 1),
            &mut text,
        )
        .map_err(failed)?;
        if text.len() > MAX_SIZE {
            return Err(ConfigError::TooLarge { path: path.to_path_buf() });
        }
        Self::parse_unchecked(path, text)
    }

    /// Parses `text`; `path` is for the errors.
    pub fn parse(path: &Path, text: String, tables: &[&str]) -> Result<Self, ConfigError> {
        Self::parse_unchecked(path, text)?.checked(tables)
    }

    pub(super) fn parse_unchecked(path: &Path, text: String) -> Result<Self, ConfigError> {
        let document = match Document::parse(text.clone()) {
            Ok(document) => document,
            Err(error) => {
                return Err(ConfigError::Syntax {
                    path: path.to_path_buf(),
                    line: line_at(&text, error.span()),
                    reason: error.message().trim().replace('\n', ", "),
                });
            }
        };
        Ok(Self { path: path.to_path_buf(), document, fallbacks: Vec::new() })
    }

    fn checked(self, tables: &[&str]) -> Result<Self, ConfigError> {
        self.check_keys(self.table(), "", tables)?;
        Ok(self)
    }

    /// Where the file is, or would be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub(super) fn table(&self) -> &Table {
        self.document.as_table()
    }

    /// One table of the file; empty when the file has no such table.
    pub fn section<'a>(&'a self, name: &'static str) -> Result<Section<'a>, ConfigError> {
        let table = match self.document.as_table().get_key_value(name) {
            None => None,
            Some((key, item)) => match item.as_table_like() {
                Some(table) => Some(table),
                None => {
                    let line = self.line(key.span());
                    return Err(self.wrong(line, name.to_owned(), "a table", describe(item)));
                }
            },
        };
        Ok(Section { settings: self, name: name.into(), table, asked: Vec::new() })
    }

    fn check_keys(
        &self,
        table: &dyn TableLike,
        prefix: &str,
        known: &[&str],
    ) -> Result<(), ConfigError> {
        match table.iter().find(|(name, _)| !known.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let span = table.get_key_value(name).and_then(|(key, _)| key.span());
                Err(ConfigError::UnknownKey {
                    path: self.path.clone(),
                    line: self.line(span),
                    key: format!("{prefix}{name}"),
                    known: known.join(", "),
                })
            }
        }
    }

    fn line(&self, span: Option<std::ops::Range<usize>>) -> usize {
        line_at(self.document.raw(), span)
    }

    fn wrong(&self, line: usize, key: String, wanted: &'static str, found: String) -> ConfigError {
        ConfigError::WrongValue { path: self.path.clone(), line, key, wanted, found }
    }
}

/// Who besides root can write a file, and the command against it.
fn distrust(metadata: &Metadata) -> Option<(String, &'static str)> {
    let writers = match trust::besides_root(metadata.mode(), metadata.uid(), metadata.gid())? {
        Other::Owner(user) => {
            return Some((format!("it belongs to user {user}"), "make it root's: chown root"));
        }
        Other::Everyone => "everyone".to_owned(),
        Other::Group(group) => format!("group {group}"),
    };
    Some((format!("{writers} can write it"), "take that away: chmod go-w"))
}

/// All, none or some of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<'a> {
    /// All, or none.
    Each(bool),
    /// These.
    These(Vec<&'a str>),
}

/// One table, read key by key. [`Section::finish`] refuses the keys that nobody asked for.
pub struct Section<'a> {
    settings: &'a Settings,
    /// With the tables around it: `host`, `vendors.ascend`.
    name: Cow<'static, str>,
    table: Option<&'a dyn TableLike>,
    asked: Vec<&'a str>,
}

impl<'a> Section<'a> {
    /// A string.
    pub fn string(&mut self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        self.value(key, "a string", Item::as_str)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        self.value(key, "true or false", Item::as_bool)
    }

    /// An array of strings.
    pub fn strings(&mut self, key: &'static str) -> Result<Option<Vec<&'a str>>, ConfigError> {
        self.value(key, "an array of strings", |item| {
            item.as_array()?.iter().map(|value| value.as_str()).collect()
        })
    }

    /// `true`, `false` or an array of strings.
    pub fn choice(&mut self, key: &'static str) -> Result<Option<Choice<'a>>, ConfigError> {
        self.value(key, "true, false or an array of strings", |item| match item.as_bool() {
            Some(value) => Some(Choice::Each(value)),
            None => {
                let items = item.as_array()?.iter().map(|value| value.as_str());
                items.collect::<Option<_>>().map(Choice::These)
            }
        })
    }

    /// An absolute path.
    pub fn absolute_path(&mut self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        self.value(key, "an absolute path", |item| absolute(item.as_str()?))
    }

    /// An array of absolute paths.
    pub fn absolute_paths(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Vec<PathBuf>>, ConfigError> {
        self.value(key, "an array of absolute paths", |item| {
            item.as_array()?.iter().map(|value| absolute(value.as_str()?)).collect()
        })
    }

    /// The tables in this one, whatever their names, in the order of the file.
    pub fn tables(&mut self) -> Vec<(&'a str, Section<'a>)> {
        let settings = self.settings;
        let mut found = Vec::new();
        for (name, item) in self.table.into_iter().flat_map(|table| table.iter()) {
            if let Some(table) = item.as_table_like() {
                self.asked.push(name);
                let full = format!("{}.{name}", self.name).into();
                let section = Section { settings, name: full, table: Some(table), asked: vec![] };
                found.push((name, section));
            }
        }
        found
    }

    /// The error for a key whose value has the right type but makes no sense.
    pub fn reject(&self, key: &'static str, wanted: &'static str) -> ConfigError {
        match self.entry(key) {
            Some(Entry { settings, name, key, item }) => {
                settings.wrong(settings.line(key.span()), name, wanted, describe(item))
            }
            None => {
                let name = format!("{}.{key}", self.name);
                self.settings.wrong(self.settings.line(None), name, wanted, "absent".to_owned())
            }
        }
    }

    /// Refuses every key of the table that was not asked for.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.table {
            Some(table) => self.settings.check_keys(table, &format!("{}.", self.name), &self.asked),
            None => Ok(()),
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        wanted: &'static str,
        read: impl FnOnce(&'a Item) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.asked.push(key);
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => read(entry.item).map(Some).ok_or_else(|| self.reject(key, wanted)),
        }
    }

    /// The value of a key, from this file or else from another program's.
    fn entry(&self, key: &str) -> Option<Entry<'a>> {
        let settings = self.settings;
        let own = self.table.and_then(|table| table.get_key_value(key)).map(|(found, item)| {
            Entry { settings, name: format!("{}.{key}", self.name), key: found, item }
        });
        own.or_else(|| settings.fallbacks.iter().find_map(|other| other.entry(&self.name, key)))
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    text.starts_with('/').then(|| PathBuf::from(text))
}

fn describe(item: &Item) -> String {
    match (item.as_str(), item.as_bool(), item.as_integer()) {
        (Some(text), ..) => format!("the string {text:?}"),
        (_, Some(value), _) => format!("the boolean {value}"),
        (.., Some(value)) => format!("the integer {value}"),
        _ => format!("of type {}", item.type_name()),
    }
}

/// The line (from 1) at which `span` begins; 1 when the parser gave none.
fn line_at(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let end = span.map_or(0, |span| span.start).min(text.len());
    1 + text.bytes().take(end).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, ConfigError> {
        Settings::parse(Path::new("/c.toml"), text.to_owned(), &["host", "nvidia"])
    }

    #[test]
    fn an_unknown_table_is_refused_with_its_line() {
        let error = parse("\n[host]\n\n[nvdia]\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "configuration file /c.toml line 4: unknown key \"nvdia\"; known here: host, nvidia"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_known_ones() {
        let settings = parse("[host]\nproc = \"/p\"\nsyss = \"/s\"\n").unwrap();
        let mut section = settings.section("host").unwrap();
        assert_eq!(section.absolute_path("proc").unwrap(), Some("/p".into()));
        assert_eq!(section.absolute_path("sys").unwrap(), None);
        let error = section.finish().unwrap_err().to_string();
        assert!(
            error.contains("line 3: unknown key \"host.syss\"; known here: proc, sys"),
            "{error}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_line() {
        let settings = parse("[host]\n\nproc = 3\n").unwrap();
        let error = settings.section("host").unwrap().absolute_path("proc").unwrap_err();
        let error = error.to_string();
        assert!(
            error.ends_with("line 3: host.proc must be an absolute path, not the integer 3"),
            "{error}"
        );
        let settings = parse("host = true").unwrap();
        let error = settings.section("host").err().unwrap().to_string();
        assert!(error.contains("line 1: host must be a table, not the boolean true"), "{error}");
    }

    #[test]
    fn a_relative_path_is_refused() {
        let settings = parse("[nvidia]\nlibrary-paths = [\"/a\", \"b\"]").unwrap();
        let error =
            settings.section("nvidia").unwrap().absolute_paths("library-paths").unwrap_err();
        assert!(error.to_string().contains("must be an array of absolute paths"), "{error}");
    }

    #[test]
    fn text_that_is_not_toml_is_refused_with_its_line() {
        let error = parse("[host]\nproc = \n").unwrap_err().to_string();
        assert!(error.contains("/c.toml line 2: "), "{error}");
    }

    #[test]
    fn tables_in_a_table_are_read_whatever_their_names() {
        let settings =
            parse("[host]\nproc = \"/p\"\n[host.a]\nx = \"1\"\n[host.b]\ny = 2\n").unwrap();
        let mut section = settings.section("host").unwrap();
        let mut tables = section.tables();
        assert_eq!(tables.len(), 2);
        let error = section.finish().err().unwrap().to_string();
        assert!(error.contains("line 2: unknown key \"host.proc\"; known here: a, b"), "{error}");
        let (name, mut b) = tables.pop().unwrap();
        let error = b.string("y").unwrap_err().to_string();
        assert!(name == "b" && error.contains("line 6: host.b.y must be a string"), "{error}");
        let (_, a) = tables.pop().unwrap();
        let error = a.finish().unwrap_err().to_string();
        assert!(error.contains("line 4: unknown key \"host.a.x\""), "{error}");
    }

    #[test]
    fn inline_tables_are_tables() {
        let settings = parse("host = { proc = \"/p\" }").unwrap();
        let mut section = settings.section("host").unwrap();
        assert_eq!(section.absolute_path("proc").unwrap(), Some("/p".into()));
    }
}
