//! What a look at the machine, or at a bundle, found: whether it is well, and what to do if not.
//!
//! Pure data, made by whoever knows the matter and shown by `gpurun doctor`.

/// How well something is. What comes later is worse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It works.
    Green,
    /// It cannot be seen by this caller; how it could be.
    Unseen(String),
    /// Something does not work, or will not for some containers; what to do.
    Yellow(String),
    /// Containers will fail; what to do.
    Red(String),
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two: the same words on every machine.
    pub check: String,
    /// What was found; may be empty when it is well.
    pub found: String,
    /// What that means.
    pub verdict: Verdict,
}

impl Finding {
    /// Something that works.
    #[must_use]
    pub fn green(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), found: found.into(), verdict: Verdict::Green }
    }

    /// Something that this caller cannot see.
    #[must_use]
    pub fn unseen(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let verdict = Verdict::Unseen(remedy.into());
        Self { check: check.into(), found: found.into(), verdict }
    }

    /// Something that fails for some containers.
    #[must_use]
    pub fn yellow(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let verdict = Verdict::Yellow(remedy.into());
        Self { check: check.into(), found: found.into(), verdict }
    }

    /// Something that makes containers fail.
    #[must_use]
    pub fn red(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let verdict = Verdict::Red(remedy.into());
        Self { check: check.into(), found: found.into(), verdict }
    }

    /// An error that makes containers fail. gpurun's errors say what is wrong, then after a
    /// semicolon what to do; `otherwise` is for those of others.
    #[must_use]
    pub fn error(check: impl Into<String>, error: &str, otherwise: &str) -> Self {
        match error.split_once("; ") {
            Some((found, remedy)) => Self::red(check, found, remedy),
            None => Self::red(check, error, otherwise),
        }
    }

    /// The same, as something that only some containers need.
    #[must_use]
    pub fn softened(self) -> Self {
        let verdict = match self.verdict {
            Verdict::Red(remedy) => Verdict::Yellow(remedy),
            other => other,
        };
        Self { verdict, ..self }
    }
}

impl Verdict {
    /// The word for it, in the page and in the JSON document.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Unseen(_) => "unseen",
            Self::Yellow(_) => "yellow",
            Self::Red(_) => "red",
        }
    }

    /// What to do, unless it is well.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Green => None,
            Self::Unseen(remedy) | Self::Yellow(remedy) | Self::Red(remedy) => Some(remedy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_brings_its_remedy_and_one_of_others_gets_one() {
        let ours = Finding::error("driver", "it is not loaded: no file; load it", "");
        assert_eq!(ours, Finding::red("driver", "it is not loaded: no file", "load it"));
        let other = Finding::error("driver", "EIO", "see dmesg");
        assert_eq!(other, Finding::red("driver", "EIO", "see dmesg"));
        assert_eq!(other.softened().verdict, Verdict::Yellow("see dmesg".to_owned()));
    }

    #[test]
    fn red_is_worse_than_yellow_and_yellow_than_what_cannot_be_seen() {
        let word = || "a".to_owned();
        let all = [
            Verdict::Green,
            Verdict::Unseen(word()),
            Verdict::Yellow(word()),
            Verdict::Red(word()),
        ];
        assert!(all.is_sorted());
    }
}
