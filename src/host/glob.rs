//! Paths with `*`, `?` and `[…]` in them, looked up in a tree.

use std::path::{Component, Path, PathBuf};

use super::tree::{HostError, Tree};

/// No pattern for the files of a machine finds more.
const MOST_FOUND: usize = 10_000;

/// Whether the path has a character that makes it a pattern.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The paths below the tree that match, sorted, each relative to its root. What a pattern does not
/// stand for is taken as it is, whether or not it exists.
///
/// # Errors
/// A directory that cannot be listed.
pub fn find(tree: &Tree, pattern: &str) -> Result<Vec<PathBuf>, HostError> {
    let mut found = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let Component::Normal(name) = component else { continue };
        match name.to_str().filter(|name| is_pattern(name)) {
            None => found.iter_mut().for_each(|path| path.push(name)),
            Some(pattern) => {
                let mut next = Vec::new();
                for directory in found {
                    let listed = match directory.as_os_str().is_empty() {
                        true => tree.names(".")?,
                        false => tree.names(&directory)?,
                    };
                    let names = listed.iter().filter(|name| matches(pattern, name));
                    next.extend(
                        names.map(|name| directory.join(name)).take(MOST_FOUND - next.len()),
                    );
                    if next.len() == MOST_FOUND {
                        break;
                    }
                }
                found = next;
            }
        }
    }
    Ok(found)
}

/// Whether a name matches the pattern: `*` is anything, `?` one character, `[a-c]` and `[^a-c]`
/// one of a set.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on when what follows the last star does not fit: one character further.
    let (mut p, mut n, mut retry) = (0, 0, None);
    loop {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return true,
            Some(_) if n < name.len() => {
                if let Some(next) = one(&pattern, p, name.get(n).copied()) {
                    (p, n) = (next, n + 1);
                    continue;
                }
            }
            _ => {}
        }
        let Some((star, from)) = retry else { return false };
        if from >= name.len() {
            return false;
        }
        retry = Some((star, from + 1));
        (p, n) = (star + 1, from + 1);
    }
}

/// Where the pattern goes on after the part at `at`, if that part stands for this character.
fn one(pattern: &[char], at: usize, character: Option<char>) -> Option<usize> {
    let character = character?;
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            let end = at + 1 + pattern.get(at + 1..)?.iter().skip(1).position(|c| *c == ']')? + 1;
            let set = pattern.get(at + 1..end)?;
            let (is_not, set) = match set {
                ['^' | '!', rest @ ..] => (true, rest),
                set => (false, set),
            };
            (is_in(set, character) != is_not).then_some(end + 1)
        }
        literal => (*literal == character).then_some(at + 1),
    }
}

fn is_in(set: &[char], character: char) -> bool {
    match set {
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&character) || is_in(rest, character),
        [first, rest @ ..] => *first == character || is_in(rest, character),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("lib*.so*", "libcuda.so.1", true),
            ("lib*.so*", "cuda.so", false),
            ("nvhost-?", "nvhost-1", true),
            ("nvhost-?", "nvhost-", false),
            ("nvidia[0-9]", "nvidia7", true),
            ("nvidia[^0-9]", "nvidia7", false),
            ("nvidia[0-9]", "nvidia", false),
            ("a[", "a[", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-", false),
            ("é?", "éé", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_are_looked_up_component_by_component() {
        let scratch = Scratch::new();
        for path in ["a/1/x", "a/2/x", "a/2/y", "b/1/x"] {
            scratch.write(path, "");
        }
        let tree = Tree::open(scratch.path()).unwrap();
        let found = |pattern| find(&tree, pattern).unwrap();
        assert_eq!(found("/a/*/x"), ["a/1/x", "a/2/x"].map(PathBuf::from));
        assert_eq!(found("*/2/[xy]"), ["a/2/x", "a/2/y"].map(PathBuf::from));
        assert_eq!(found("/not/there"), [PathBuf::from("not/there")]);
        assert_eq!(found("/a/*/../../../etc/z*"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_tree_that_leads_back_into_itself_ends_the_search() {
        let scratch = Scratch::new();
        for name in 0..20 {
            scratch.link(".", &name.to_string());
        }
        let tree = Tree::open(scratch.path()).unwrap();
        // 20 to the fourth would match.
        assert_eq!(find(&tree, "/*/*/*/*").unwrap().len(), MOST_FOUND);
    }
}
