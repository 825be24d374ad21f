//! Paths as texts: no file is looked at.

use std::path::{Component, Path, PathBuf};

/// `target`, the text of a link or another path, as seen from the directory `dir`: absolute,
/// without `.` and `..`. Above `/` there is nothing.
#[must_use]
pub fn joined(dir: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::from("/");
    for component in dir.join(target).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                path.pop();
            }
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_counts_from_its_directory_or_from_the_root() {
        for (dir, target, expected) in [
            ("/usr/lib", "libx.so", "/usr/lib/libx.so"),
            ("/usr/lib", "../bin/./x", "/usr/bin/x"),
            ("/usr", "../../../x", "/x"),
            ("/usr", "/lib//x/", "/lib/x"),
            ("usr", ".", "/usr"),
        ] {
            assert_eq!(joined(Path::new(dir), Path::new(target)), Path::new(expected));
        }
    }
}
