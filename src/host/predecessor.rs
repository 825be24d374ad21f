//! The configuration file of a program that gpurun replaces, for the keys that gpurun's own file
//! does not set. A node that switches over keeps its policy.

use std::path::Path;

use toml_edit::{Item, Key, TableLike};

use super::config::{ConfigError, Settings};

/// Which file, and which of its keys mean what.
#[derive(Debug)]
pub struct Predecessor {
    /// Where the file is. An absent one is no error.
    pub path: &'static str,
    /// The table of gpurun's file with the key below.
    pub table: &'static str,
    /// The key that names another file, or [`NONE`].
    pub key: &'static str,
    /// gpurun's table and key, and the path of tables and key in the other file.
    pub keys: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// What the key says when no such file is to be read.
pub const NONE: &str = "none";

/// The file, parsed.
#[derive(Debug)]
pub(super) struct Fallback {
    settings: Settings,
    keys: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// A value and where it is written.
pub(super) struct Entry<'a> {
    pub settings: &'a Settings,
    pub name: String,
    pub key: &'a Key,
    pub item: &'a Item,
}

impl Fallback {
    /// Reads the file. `None`: there is none.
    pub fn read(
        predecessor: &'static Predecessor,
        chosen: Option<&str>,
    ) -> Result<Option<Self>, ConfigError> {
        if chosen == Some(NONE) {
            return Ok(None);
        }
        let path = Path::new(chosen.unwrap_or(predecessor.path));
        match Settings::read_unchecked(path) {
            Ok(settings) => Ok(Some(Self { settings, keys: predecessor.keys })),
            Err(ConfigError::Read { source, .. })
                if chosen.is_none() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Fallback::read`], of this text.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of_text(predecessor: &'static Predecessor, text: &str) -> Result<Self, ConfigError> {
        let settings = Settings::parse_unchecked(Path::new(predecessor.path), text.to_owned())?;
        Ok(Self { settings, keys: predecessor.keys })
    }

    /// The value for a key of gpurun's. An empty string is how such files say "not set".
    pub fn entry(&self, table: &str, key: &str) -> Option<Entry<'_>> {
        let (.., path) = self.keys.iter().find(|(t, k, _)| *t == table && *k == key)?;
        let (last, tables) = path.split_last()?;
        let mut place: &dyn TableLike = self.settings.table();
        for name in tables {
            place = place.get(name)?.as_table_like()?;
        }
        let (key, item) = place.get_key_value(last)?;
        let is_set = item.as_str() != Some("");
        is_set.then(|| Entry { settings: &self.settings, name: path.join("."), key, item })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    static OTHER: Predecessor = Predecessor {
        path: "/nonexistent/other.toml",
        table: "own",
        key: "other-config",
        keys: &[("own", "root", &["cli", "root"]), ("own", "switch", &["switch"])],
    };

    fn settings(
        own: &str,
        other: Option<&str>,
        scratch: &Scratch,
    ) -> Result<Settings, ConfigError> {
        let mut text = format!("[own]\n{own}\n");
        if let Some(other) = other {
            scratch.write("other.toml", other);
            let path = scratch.path().join("other.toml");
            text.push_str(&format!("other-config = {path:?}\n"));
        }
        Settings::parse(Path::new("/c.toml"), text, &["own"])?.with_predecessor(&OTHER)
    }

    #[test]
    fn the_own_file_decides_and_the_other_fills_in() {
        let scratch = Scratch::new();
        let other = "switch = false\nunknown = 3\n[cli]\nroot = \"/r\"\n[cli.more]\nx = 1\n";
        let read = |own: &str| {
            let settings = settings(own, Some(other), &scratch).unwrap();
            let mut section = settings.section("own").unwrap();
            section.string("other-config").unwrap();
            let values =
                (section.boolean("switch").unwrap(), section.absolute_path("root").unwrap());
            section.finish().unwrap();
            values
        };
        assert_eq!(read(""), (Some(false), Some("/r".into())));
        assert_eq!(read("switch = true"), (Some(true), Some("/r".into())));
        assert_eq!(read("root = \"/o\""), (Some(false), Some("/o".into())));
    }

    #[test]
    fn absent_refused_and_empty_are_not_set() {
        let scratch = Scratch::new();
        for (own, other) in [
            ("", None),
            ("other-config = \"none\"", None),
            ("", Some("[cli]\nroot = \"\"\n")),
            ("", Some("cli = 3")),
            ("", Some("")),
        ] {
            let settings = settings(own, other, &scratch).unwrap();
            let root = settings.section("own").unwrap().absolute_path("root").unwrap();
            assert_eq!(root, None, "{own} {other:?}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_other_file_is_named_with_that_file_and_its_line() {
        let scratch = Scratch::new();
        let wrong = settings("", Some("\n\n[cli]\nroot = 3\n"), &scratch).unwrap();
        let error = wrong.section("own").unwrap().absolute_path("root").unwrap_err().to_string();
        assert!(error.contains("other.toml line 4: cli.root must be an absolute path"), "{error}");
        let error = settings("", Some("a\n= ["), &scratch).unwrap_err().to_string();
        assert!(error.contains("other.toml line 1: "), "{error}");
        let own = "other-config = \"/nonexistent/named.toml\"";
        let error = settings(own, None, &scratch).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/named.toml"), "{error}");
    }
}
