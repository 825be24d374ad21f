//! `cgroupsPath` as systemd's driver reads it: `slice:prefix:name`. Pure.

use std::path::Path;

use super::Instance;
use crate::cgroup::CgroupError;

/// The prefix of a container whose spec names no cgroup.
const PREFIX: &str = "gpurun";
/// The longest name of a unit (`UNIT_NAME_MAX`, systemd's unit-name.h).
const MAX_NAME: usize = 255;

/// The two names that a `cgroupsPath` leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The slice, as in `Slice=`.
    pub slice: String,
    /// The scope.
    pub unit: String,
}

impl Name {
    /// As in runc: no path means a scope of the container's id, an empty slice the default one.
    pub fn parse(
        cgroups_path: Option<&Path>,
        id: &str,
        instance: Instance,
    ) -> Result<Self, CgroupError> {
        let given = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let path = given.unwrap_or_else(|| Path::new(id));
        let refuse = |reason: String| CgroupError::Path { path: path.to_owned(), reason };
        let (slice, prefix, name) = match given {
            None => ("", PREFIX, id),
            Some(path) => {
                let text = path.to_str().ok_or_else(|| refuse("it is not UTF-8".to_owned()))?;
                let mut parts = text.split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                    _ => {
                        return Err(refuse(format!(
                            "expected cgroupsPath to be of format \"slice:prefix:name\" for \
                             systemd cgroups, got {text:?} instead"
                        )));
                    }
                }
            }
        };
        let slice = match (slice, instance) {
            ("", Instance::System) => "system.slice",
            ("", Instance::User) => "user.slice",
            (slice, _) => slice,
        };
        if expand_slice(slice).is_none() {
            return Err(refuse(format!(
                "{slice:?} is no slice; one is named like \"system.slice\" or \"a-b.slice\" \
                 (which is in a.slice)"
            )));
        }
        if name.is_empty() {
            return Err(refuse("the name after the second colon is empty".to_owned()));
        }
        if name.ends_with(".slice") {
            return Err(refuse(format!(
                "{name:?} would be a slice, but a container's processes need a scope; \
                 choose a name that does not end in .slice"
            )));
        }
        let unit = format!("{prefix}-{name}.scope");
        if let Some(bad) = unit.chars().find(|letter| !is_allowed(*letter)) {
            return Err(refuse(format!(
                "a unit's name cannot have {bad:?} in it; allowed are letters, digits and :-_.\\@"
            )));
        }
        if unit.len() > MAX_NAME {
            return Err(refuse(format!(
                "the unit's name would have {} letters; systemd allows {MAX_NAME}",
                unit.len()
            )));
        }
        Ok(Self { slice: slice.to_owned(), unit })
    }
}

/// What a unit's name may have in it (systemd.unit(5)).
fn is_allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter)
}

/// The path of a slice: `a-b.slice` is `/a.slice/a-b.slice`, and `-.slice` the root, which is "".
/// `None`: that is no slice's name (systemd.slice(5)).
pub(super) fn expand_slice(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    if slice.len() > MAX_NAME || !name.chars().all(is_allowed) {
        return None;
    }
    let mut path = String::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        so_far.push_str(part);
        path.push_str(&format!("/{so_far}.slice"));
        so_far.push('-');
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<(String, String), String> {
        let path = Some(Path::new(path)).filter(|path| !path.as_os_str().is_empty());
        Name::parse(path, "box", Instance::System)
            .map(|name| (name.slice, name.unit))
            .map_err(|err| err.to_string())
    }

    #[test]
    fn a_path_names_the_slice_and_the_scope() {
        let name = |slice: &str, unit: &str| Ok((slice.to_owned(), unit.to_owned()));
        assert_eq!(parse(""), name("system.slice", "gpurun-box.scope"));
        assert_eq!(parse(":docker:1"), name("system.slice", "docker-1.scope"));
        assert_eq!(parse("-.slice:a:b"), name("-.slice", "a-b.scope"));
        assert_eq!(
            parse("kubepods-pod1.slice:cri-containerd:x"),
            name("kubepods-pod1.slice", "cri-containerd-x.scope")
        );
        let rootless = Name::parse(None, "box", Instance::User).unwrap();
        assert_eq!(rootless.slice, "user.slice");
    }

    #[test]
    fn a_malformed_path_is_refused_by_name() {
        for (bad, reason) in [
            ("/a/b", "expected cgroupsPath to be of format \"slice:prefix:name\""),
            ("a:b", "slice:prefix:name"),
            ("a.slice:b:c:d", "slice:prefix:name"),
            ("a:b:c", "\"a\" is no slice"),
            ("a/b.slice:b:c", "no slice"),
            ("-a.slice:b:c", "no slice"),
            ("a--b.slice:b:c", "no slice"),
            (".slice:b:c", "no slice"),
            ("a.slice:b:", "empty"),
            ("a.slice:b:../c", "cannot have '/'"),
            ("a.slice:b:c d", "cannot have ' '"),
            ("a.slice:b:c.slice", "would be a slice"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.starts_with("invalid cgroupsPath") && error.contains(reason), "{error}");
        }
        assert!(parse(&format!(":p:{}", "x".repeat(300))).unwrap_err().contains("allows 255"));
    }

    #[test]
    fn nested_slices_become_nested_directories() {
        assert_eq!(expand_slice("a-b-c.slice").unwrap(), "/a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(expand_slice("-.slice").unwrap(), "");
    }
}
