//! The lists of what a container needs of a Jetson's system software: `TYPE, PATH` lines.

/// What a line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A device node.
    Device,
    /// A directory.
    Directory,
    /// A library.
    Library,
    /// A link, with what it leads to.
    Link,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub kind: Kind,
    /// The path, which may be a pattern.
    pub path: String,
}

/// No list is longer.
const MOST_LINES: usize = 100_000;

/// The lines that are understood; others are comments, or for another reader.
pub fn parse(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let (kind, path) = line.split_once(',')?;
        let kind = match kind.trim() {
            "dev" => Kind::Device,
            "dir" => Kind::Directory,
            "lib" => Kind::Library,
            "sym" => Kind::Link,
            _ => return None,
        };
        let path = path.trim();
        let is_plain = !path.split('/').any(|name| name == "..") && !path.contains('\0');
        (path.starts_with('/') && is_plain).then(|| Entry { kind, path: path.to_owned() })
    };
    text.lines().take(MOST_LINES).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_type_and_an_absolute_path_and_others_are_passed_over() {
        let text = "dev, /dev/nvmap\n lib ,/usr/lib/a b.so\r\n# dev, /dev/x\nsym, /a*\n\
                    dir, /usr/share/x\nlib, relative\nexe, /bin/sh\nlib\nlib,\ndev, /dev/../etc\n\u{0}";
        let parsed = parse(text);
        let found: Vec<_> = parsed.iter().map(|one| (one.kind, one.path.as_str())).collect();
        assert_eq!(
            found,
            [
                (Kind::Device, "/dev/nvmap"),
                (Kind::Library, "/usr/lib/a b.so"),
                (Kind::Link, "/a*"),
                (Kind::Directory, "/usr/share/x"),
            ]
        );
    }
}
