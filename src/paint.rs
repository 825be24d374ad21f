//! Colours, for a reader at a terminal.

use std::io::IsTerminal;

/// Whether text gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

/// What is painted how (ECMA-48, "Select graphic rendition").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Headings.
    Bold,
    /// What explains something else.
    Dim,
    /// What is well.
    Green,
    /// What may go wrong.
    Yellow,
    /// What goes wrong.
    Red,
}

impl Paint {
    /// Without colours.
    pub const OFF: Self = Self { on: false };
    /// With colours.
    pub const ON: Self = Self { on: true };

    /// Colours if stdout is a terminal that has them, and the user has not declined them
    /// (<https://no-color.org>).
    #[must_use]
    pub fn for_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        Self { on: set("NO_COLOR").is_none() && !dumb && std::io::stdout().is_terminal() }
    }

    /// The text in this ink.
    #[must_use]
    pub fn with(self, ink: Ink, text: &str) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Red => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Text from an image or from a file of the machine must not steer the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_painted_only_where_colours_are_wanted() {
        assert_eq!(Paint::OFF.with(Ink::Red, "x"), "x");
        assert_eq!(Paint::ON.with(Ink::Red, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint::ON.with(Ink::Red, ""), "");
        assert_eq!(printable("a\x1b[31mb"), "a\u{fffd}[31mb");
    }
}
