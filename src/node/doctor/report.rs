//! The findings as one page for a person, and as JSON for a program.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::finding::{Finding, Verdict};
use crate::paint::{Ink, Paint, printable};

/// The version of the JSON document. A new number when a field goes away or changes its meaning.
const SCHEMA: u32 = 1;

/// The page's width where a line can be broken.
const WIDTH: usize = 100;

/// Everything that was found.
#[derive(Debug)]
pub struct Report {
    /// By area, in the order of the page.
    pub sections: Vec<Section>,
}

/// One area.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Section {
    /// An area with what was found in it.
    #[must_use]
    pub fn new(title: &'static str, findings: Vec<Finding>) -> Self {
        Self { title, findings }
    }
}

impl Report {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.sections.iter().flat_map(|section| &section.findings)
    }

    /// Whether something is red.
    #[must_use]
    pub fn is_red(&self) -> bool {
        self.all().any(|finding| matches!(finding.verdict, Verdict::Red(_)))
    }

    fn count(&self, word: &str) -> usize {
        self.all().filter(|finding| finding.verdict.word() == word).count()
    }

    /// The worst verdict's word; what cannot be seen does not count.
    fn verdict(&self) -> &'static str {
        match (self.is_red(), self.count("yellow")) {
            (true, _) => "red",
            (false, 0) => "green",
            (false, _) => "yellow",
        }
    }

    /// `{"schema": 1, "gpurun": …, "verdict": …, "findings": [{"area", "check", "verdict", "found",
    /// "remedy"}]}`; docs/doctor.md describes it.
    #[must_use]
    pub fn json(&self, version: &str) -> Value {
        let one = |area: &str, finding: &Finding| {
            json!({
                "area": area.to_lowercase(),
                "check": finding.check,
                "verdict": finding.verdict.word(),
                "found": finding.found,
                "remedy": finding.verdict.remedy(),
            })
        };
        let findings = self.sections.iter().flat_map(|section| {
            section.findings.iter().map(move |finding| one(section.title, finding))
        });
        json!({
            "schema": SCHEMA,
            "gpurun": version,
            "verdict": self.verdict(),
            "findings": findings.collect::<Vec<_>>(),
        })
    }

    /// The page: findings that say the same share a line, the remedy stands below what it mends.
    #[must_use]
    pub fn page(&self, paint: Paint) -> String {
        let mut out = String::new();
        for section in self.sections.iter().filter(|section| !section.findings.is_empty()) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", paint.with(Ink::Bold, section.title));
            let plain = |one: &&Finding| one.verdict == Verdict::Green && one.found.is_empty();
            let well: Vec<_> =
                section.findings.iter().filter(plain).map(|one| one.check.as_str()).collect();
            let mut rest: Vec<(&Finding, Vec<&str>)> = Vec::new();
            for finding in section.findings.iter().filter(|one| !plain(one)) {
                let is_same = |(known, _): &&mut (&Finding, Vec<&str>)| {
                    (&known.found, &known.verdict) == (&finding.found, &finding.verdict)
                };
                match rest.iter_mut().find(is_same) {
                    Some((_, checks)) => checks.push(&finding.check),
                    None => rest.push((finding, vec![&finding.check])),
                }
            }
            for (finding, checks) in rest {
                let checks = checks.join(", ");
                let text = match finding.found.is_empty() {
                    true => checks,
                    false => format!("{checks}: {}", finding.found),
                };
                line(&mut out, paint, &finding.verdict, &text);
                if let Some(remedy) = finding.verdict.remedy() {
                    let arrow = format!("{:10}→ ", "");
                    out.push_str(&folded(remedy, &arrow, 12));
                }
            }
            if !well.is_empty() {
                line(&mut out, paint, &Verdict::Green, &well.join(", "));
            }
            out.push('\n');
        }
        let (red, yellow) = (self.count("red"), self.count("yellow"));
        let _ = match (red, yellow) {
            (0, 0) => writeln!(out, "{}", paint.with(Ink::Green, "Nothing is wrong.")),
            _ => writeln!(
                out,
                "{}, {}.",
                paint.with(ink(red, Ink::Red), &format!("{red} red")),
                paint.with(ink(yellow, Ink::Yellow), &format!("{yellow} yellow"))
            ),
        };
        out
    }
}

fn ink(count: usize, ink: Ink) -> Ink {
    if count == 0 { Ink::Dim } else { ink }
}

fn line(out: &mut String, paint: Paint, verdict: &Verdict, text: &str) {
    let ink = match verdict {
        Verdict::Green => Ink::Green,
        Verdict::Unseen(_) => Ink::Dim,
        Verdict::Yellow(_) => Ink::Yellow,
        Verdict::Red(_) => Ink::Red,
    };
    let word = paint.with(ink, &format!("{:6}", verdict.word()));
    out.push_str(&folded(text, &format!("  {word}  "), 10));
}

/// The text in lines of the page's width, the first behind `first`, the others indented.
fn folded(text: &str, first: &str, indent: usize) -> String {
    let mut out = String::from(first);
    let mut at = indent;
    for (index, word) in printable(text).split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && at + 1 + length > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            at = indent;
        } else if index > 0 {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            sections: vec![
                Section::new(
                    "Kernel",
                    vec![
                        Finding::green("openat2", ""),
                        Finding::yellow("idmap", "no such mounts\x1b[2J", "get Linux 5.12"),
                        Finding::green("clone3", ""),
                        Finding::unseen("a", "root", "sudo"),
                        Finding::unseen("b", "root", "sudo"),
                    ],
                ),
                Section::new("Empty", vec![]),
                Section::new("State", vec![Finding::green("containers", "3 of them")]),
            ],
        }
    }

    #[test]
    fn the_page_has_a_line_for_what_is_well_and_the_remedy_below_what_is_not() {
        let page = report().page(Paint::OFF);
        let expected = "Kernel\n  \
            yellow  idmap: no such mounts\u{fffd}[2J\n          → get Linux 5.12\n  \
            unseen  a, b: root\n          → sudo\n  \
            green   openat2, clone3\n\n\
            State\n  green   containers: 3 of them\n\n0 red, 1 yellow.\n";
        assert_eq!(page, expected);
        assert!(report().page(Paint::ON).contains("\x1b[33myellow\x1b[0m"));
        let well = Report { sections: vec![Section::new("A", vec![Finding::green("b", "")])] };
        assert!(well.page(Paint::OFF).ends_with("Nothing is wrong.\n"));
    }

    #[test]
    fn long_lines_are_folded_under_their_beginning() {
        let sections = vec![Section::new("A", vec![Finding::red("b", "word ".repeat(30), "r")])];
        let page = Report { sections }.page(Paint::OFF);
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
        assert!(page.lines().nth(2).unwrap().starts_with("          word"), "{page}");
    }

    #[test]
    fn the_document_names_area_check_verdict_and_remedy() {
        let document = report().json("1.2.3");
        assert_eq!(document["schema"], 1);
        assert_eq!(document["gpurun"], "1.2.3");
        assert_eq!(document["verdict"], "yellow");
        let idmap = &document["findings"][1];
        assert_eq!(idmap["area"], "kernel");
        assert_eq!(idmap["check"], "idmap");
        assert_eq!(idmap["remedy"], "get Linux 5.12");
        assert_eq!(document["findings"][0]["remedy"], Value::Null);
    }

    #[test]
    fn what_cannot_be_seen_makes_a_machine_no_worse() {
        let sections = vec![Section::new("A", vec![Finding::unseen("b", "c", "be root")])];
        let report = Report { sections };
        assert!(!report.is_red());
        assert_eq!(report.json("1")["verdict"], "green");
    }
}
