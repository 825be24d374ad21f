//! Who can change a file whose content root acts on.

/// Somebody besides root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Its owner, by user id.
    Owner(u32),
    /// Everyone may write it.
    Everyone,
    /// A group may, by group id.
    Group(u32),
}

/// Who besides root can write a file with this mode, owner and group. The members of root's own
/// group count as root.
#[must_use]
pub fn besides_root(mode: u32, user: u32, group: u32) -> Option<Other> {
    match mode {
        _ if user != 0 => Some(Other::Owner(user)),
        mode if mode & 0o002 != 0 => Some(Other::Everyone),
        mode if mode & 0o020 != 0 && group != 0 => Some(Other::Group(group)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::besides_root;

    #[test]
    fn only_what_root_alone_can_write_is_trusted() {
        for (mode, user, group, trusted) in [
            (0o040_700, 0, 0, true),
            (0o040_755, 0, 1000, true),
            (0o040_775, 0, 0, true),
            (0o040_775, 0, 1000, false),
            (0o041_777, 0, 0, false),
            (0o100_666, 0, 0, false),
            (0o040_700, 1000, 0, false),
        ] {
            assert_eq!(
                besides_root(mode, user, group).is_none(),
                trusted,
                "{mode:o} {user}:{group}"
            );
        }
    }
}
