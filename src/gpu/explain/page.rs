//! Titles, and rows with aligned columns.

use std::fmt::Write;

use crate::paint::{Ink, Paint, printable};

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    out: String,
    paint: Paint,
}

impl Page {
    /// An empty page.
    pub fn new(paint: Paint) -> Self {
        Self { out: String::new(), paint }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    /// A title with what it is about, and rows; nothing when there are no rows.
    pub fn section(&mut self, title: &str, about: &str, rows: Vec<Vec<String>>) {
        if !rows.is_empty() {
            self.title(title, about);
            self.rows(&rows, "  ", Some(Ink::Dim));
        }
    }

    /// The same with the number of the rows.
    pub fn counted(&mut self, title: &str, about: &str, rows: Vec<Vec<String>>) {
        self.section(&format!("{title} ({})", rows.len()), about, rows);
    }

    /// The same for what the reader should not miss.
    pub fn warnings(&mut self, title: &str, rows: Vec<Vec<String>>) {
        if !rows.is_empty() {
            self.title(title, "");
            self.rows(&rows, "  ", Some(Ink::Yellow));
        }
    }

    /// A title alone.
    pub fn title(&mut self, title: &str, about: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(&self.paint.with(Ink::Bold, title));
        if !about.is_empty() {
            self.out.push_str(&self.paint.with(Ink::Dim, &format!(": {about}")));
        }
        self.out.push('\n');
    }

    /// A line between a title and its rows.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.out, "  {}", printable(text));
    }

    /// Rows with aligned columns; the last, which says why, in this ink.
    pub fn rows(&mut self, rows: &[Vec<String>], indent: &str, last: Option<Ink>) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            // The end of a row needs no room.
            let cells = rows.iter().filter(|row| row.len() > column + 1);
            cells.map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let mut line = indent.to_owned();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let cell = printable(cell);
                let is_last = at + 1 == row.len();
                match last.filter(|ink| is_last && (at > 0 || *ink == Ink::Yellow)) {
                    Some(ink) => line.push_str(&self.paint.with(ink, &cell)),
                    // Writing to a String cannot fail.
                    None if is_last => line.push_str(&cell),
                    None => drop(write!(line, "{cell:width$}  ")),
                }
            }
            let _ = writeln!(self.out, "{}", line.trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_colours_do_not_count() {
        let page = |paint| {
            let mut page = Page::new(paint);
            page.counted("Things", "so", vec![row(&["a", "1", "x"]), row(&["bbb", "22", "why"])]);
            page.section("None", "", vec![]);
            page.finish()
        };
        assert_eq!(page(Paint::OFF), "Things (2): so\n  a    1   x\n  bbb  22  why\n");
        let painted = page(Paint::ON).replace("\x1b[1m", "").replace("\x1b[2m", "");
        assert_eq!(painted.replace("\x1b[0m", ""), page(Paint::OFF));
    }

    #[test]
    fn a_long_last_cell_widens_no_column() {
        let mut page = Page::new(Paint::OFF);
        page.section("T", "", vec![row(&["a", "b", "c"]), row(&["one long line"])]);
        assert_eq!(page.finish(), "T\n  a  b  c\n  one long line\n");
    }
}
