//! The example configuration: every key of docs/configuration.md with its meaning, commented out.

use std::fmt::Write;

/// The width of a comment.
const WIDTH: usize = 96;

/// Makes the example out of the tables of keys below the headings `## `[table]``: their first row
/// is `| key |` or, for keys of another table, `| key of `[table]` |`.
///
/// # Errors
/// A row that makes no line of TOML.
pub fn example(page: &str) -> Result<String, String> {
    let mut out = String::from(
        "# gpurun's configuration. Every key is optional; what is commented out here is its default,\n\
         # or an example where a key has none. docs/configuration.md says more.\n",
    );
    let mut is_table = false;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            is_table = false;
            let name = heading.split_once("`[").and_then(|(_, rest)| rest.split_once("]`"));
            if let Some((name, _)) = name {
                // Writing to a String cannot fail.
                let _ = write!(out, "\n[{name}]\n");
            }
        } else if line.starts_with("| key |") {
            is_table = true;
        } else if let Some(other) = line.strip_prefix("| key of `[") {
            is_table = true;
            let name = other.split_once("]`").map_or(other, |(name, _)| name);
            let _ = write!(out, "\n#[{name}]\n");
        } else if !line.starts_with('|') {
            is_table = false;
        } else if is_table && let Some(row) = Row::parse(line) {
            row.write(&mut out)?;
        }
    }
    Ok(out)
}

/// A row of the page.
struct Row<'a> {
    key: &'a str,
    kind: &'a str,
    default: &'a str,
    meaning: String,
}

impl<'a> Row<'a> {
    /// `None`: a heading or a line between heading and rows.
    fn parse(line: &'a str) -> Option<Self> {
        let mut cells = line.strip_prefix('|')?.splitn(4, '|').map(str::trim);
        let key = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let (kind, default) = (cells.next()?, cells.next()?);
        let meaning = cells.next()?.trim_end_matches('|').trim().replace('`', "");
        Some(Self { key, kind, default, meaning })
    }

    fn write(&self, out: &mut String) -> Result<(), String> {
        let line = format!("{} = {}", self.key, self.value());
        line.parse::<toml_edit::DocumentMut>().map_err(|error| format!("{line}: {error}"))?;
        out.push('\n');
        comment(out, &self.meaning);
        if !self.is_plain() {
            comment(out, &format!("Default: {}.", self.default.replace('`', "")));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "#{line}");
        Ok(())
    }

    /// What the default's cell has as code.
    fn codes(&self) -> impl Iterator<Item = &'a str> {
        self.default.split('`').skip(1).step_by(2)
    }

    /// Whether the default is one value and nothing more.
    fn is_plain(&self) -> bool {
        let mut codes = self.codes();
        codes.next().is_some_and(|code| code.len() + 2 == self.default.len())
    }

    /// The default as TOML, or the example after it, or something of its type.
    fn value(&self) -> String {
        let first = self.codes().next();
        match (first, self.kind) {
            (Some(code), _) if self.is_plain() && !code.starts_with('/') => code.to_owned(),
            (_, kind) if kind.starts_with("array") => {
                let words: Vec<_> = self.codes().map(|code| format!("{code:?}")).collect();
                format!("[{}]", words.join(", "))
            }
            (Some(code), _) if code.starts_with('/') => format!("{code:?}"),
            (Some(code), "string") => code.to_owned(),
            (_, "path") => "\"/path\"".to_owned(),
            (_, "boolean") => "false".to_owned(),
            _ => "\"\"".to_owned(),
        }
    }
}

/// A comment in lines of the file's width.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_commented_keys_with_their_meaning() {
        let page = "## `[t]`: a table\n\n| key | type | default | meaning |\n|---|---|---|---|\n\
                    | `a` | path | `/x` | where `a` is |\n| `b` | path | unset | b |\n\n\
                    | name | is | no | key |\n|---|---|---|---|\n| `n` | `x` | y | z |\n## Else\n\
                    | `c` | path | `/y` | not a key |\n## `[u]`\n\
                    | key of `[u.NAME]` | type | default | meaning |\n|---|---|---|---|\n\
                    | `d` | array of strings | `x`, `y` | d |\n\
                    | `e` | path | `/e`, without rights `$E/e` | e |\n\
                    | `f` | string | required, such as `\"F\"` | f |\n";
        let text = example(page).unwrap();
        let expected =
            "[t]\n\n# where a is\n#a = \"/x\"\n\n# b\n# Default: unset.\n#b = \"/path\"\n\n[u]";
        assert!(text.contains(expected), "{text}");
        let expected = "[u]\n\n#[u.NAME]\n\n# d\n# Default: x, y.\n#d = [\"x\", \"y\"]\n\n\
                        # e\n# Default: /e, without rights $E/e.\n#e = \"/e\"\n\n\
                        # f\n# Default: required, such as \"F\".\n#f = \"F\"\n";
        assert!(text.ends_with(expected), "{text}");
        let page = "## `[t]`\n| key | type | default | meaning |\n| `a` | string | `oops` | x |\n";
        assert!(example(page).is_err());
    }
}
