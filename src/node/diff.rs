//! Unified diffs, as diff(1) and git print them.

/// Lines around a change.
const CONTEXT: usize = 3;

/// How many pairs of lines are compared at most. Beyond that everything between the first and the
/// last difference is shown as replaced.
const MOST_PAIRS: usize = 4_000_000;

#[derive(Debug, Clone, Copy)]
enum Step<'t> {
    Same(&'t str),
    Gone(&'t str),
    New(&'t str),
}

/// What turns one text into the other; empty when they are equal. `None` is an absent file.
pub fn unified(path: &str, before: Option<&str>, after: Option<&str>) -> String {
    if before == after {
        return String::new();
    }
    let name = |text: Option<&str>| text.map_or("/dev/null", |_| path);
    let mut out = format!("--- {}\n+++ {}\n", name(before), name(after));
    let steps = steps(before.unwrap_or_default(), after.unwrap_or_default());
    let (mut old, mut new, mut at) = (1, 1, 0);
    while at < steps.len() {
        let Some(next) = steps[at..].iter().position(|step| !matches!(step, Step::Same(_))) else {
            break;
        };
        let begin = at + next.saturating_sub(CONTEXT);
        old += begin - at;
        new += begin - at;
        let end = end_of_hunk(&steps, at + next);
        at = end;
        let hunk = &steps[begin..end];
        let count = |keep: fn(&Step<'_>) -> bool| hunk.iter().filter(|step| keep(step)).count();
        let olds = count(|step| !matches!(step, Step::New(_)));
        let news = count(|step| !matches!(step, Step::Gone(_)));
        out += &format!("@@ -{} +{} @@\n", range(old, olds), range(new, news));
        for step in hunk {
            let (sign, line) = match step {
                Step::Same(line) => (' ', line),
                Step::Gone(line) => ('-', line),
                Step::New(line) => ('+', line),
            };
            out.push(sign);
            out += line;
            if !line.ends_with('\n') {
                out += "\n\\ No newline at end of file\n";
            }
        }
        old += olds;
        new += news;
    }
    out
}

fn range(begin: usize, count: usize) -> String {
    match count {
        0 => format!("{},0", begin - 1),
        1 => begin.to_string(),
        _ => format!("{begin},{count}"),
    }
}

/// Where the hunk ends whose first change is at `at`: after the context that follows the last
/// change that is near enough.
fn end_of_hunk(steps: &[Step<'_>], at: usize) -> usize {
    let mut last = at;
    for (index, step) in steps.iter().enumerate().skip(at) {
        match step {
            Step::Same(_) if index - last > 2 * CONTEXT => break,
            Step::Same(_) => {}
            _ => last = index,
        }
    }
    (last + 1 + CONTEXT).min(steps.len())
}

/// The longest common subsequence of lines as a list of steps.
fn steps<'t>(before: &'t str, after: &'t str) -> Vec<Step<'t>> {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    if a.len() * b.len() > MOST_PAIRS {
        let parts = [&old[..head], &old[old.len() - tail..]].map(|part| part.iter().copied());
        let [same, rest] = parts.map(|part| part.map(Step::Same));
        let gone = a.iter().map(|line| Step::Gone(line));
        let new = b.iter().map(|line| Step::New(line));
        return same.chain(gone).chain(new).chain(rest).collect();
    }
    // best[i][j]: the length of the common subsequence of a[i..] and b[j..].
    let mut best = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            best[i][j] = match a[i] == b[j] {
                true => best[i + 1][j + 1] + 1,
                false => best[i + 1][j].max(best[i][j + 1]),
            };
        }
    }
    let mut steps: Vec<Step<'_>> = old[..head].iter().map(|line| Step::Same(line)).collect();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            steps.push(Step::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && best[i + 1][j] >= best[i][j + 1]) {
            steps.push(Step::Gone(a[i]));
            i += 1;
        } else {
            steps.push(Step::New(b[j]));
            j += 1;
        }
    }
    steps.extend(old[old.len() - tail..].iter().map(|line| Step::Same(line)));
    steps
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn a_change_is_shown_with_three_lines_around_it() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let after = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let expected = "--- f\n+++ f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n";
        assert_eq!(unified("f", Some(before), Some(after)), expected);
        assert_eq!(unified("f", Some(before), Some(before)), "");
    }

    #[test]
    fn far_changes_are_hunks_of_their_own() {
        let before: String = (1..=30).map(|n| format!("{n}\n")).collect();
        let after = before.replace("\n5\n", "\n5\n5a\n").replace("\n25\n", "\n");
        let diff = unified("f", Some(&before), Some(&after));
        let heads: Vec<&str> = diff.lines().filter(|line| line.starts_with("@@")).collect();
        assert_eq!(heads, ["@@ -3,6 +3,7 @@", "@@ -22,7 +23,6 @@"]);
    }

    #[test]
    fn new_and_removed_files_and_a_missing_line_end_are_shown_as_diff_shows_them() {
        let new = "--- /dev/null\n+++ f\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n";
        assert_eq!(unified("f", None, Some("a\nb")), new);
        let gone = "--- f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n";
        assert_eq!(unified("f", Some("a\n"), None), gone);
    }
}
