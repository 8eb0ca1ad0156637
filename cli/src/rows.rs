//! What commands find out, row by row: a table for people, one JSON object a line for programs.
//!
//! Owns: `--json`, alignment, what fits on a terminal, what of a stranger's text is shown.
//! Does not own: which columns there are, records (`consume`).
//!
//! Invariants: nothing that a peer said reaches a terminal with control characters in it. Without a terminal there are no colours, and
//! nothing is cut off.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use clap::Args;
use serde::Serialize;

/// Between two columns.
const GAP: &str = "  ";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";
/// What stands for a cell that has no value.
pub(crate) const NOTHING: &str = "-";

/// How results look.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct FormArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    name: &'static str,
    /// For numbers, whose units are to stand below each other.
    right: bool,
}

/// A column of text.
pub(crate) const fn text(name: &'static str) -> Column {
    Column { name, right: false }
}

/// A column of numbers.
pub(crate) const fn number(name: &'static str) -> Column {
    Column { name, right: true }
}

/// Where results go.
#[derive(Debug)]
pub(crate) struct Rows<W> {
    json: bool,
    /// Columns of the terminal, if it is one.
    width: Option<usize>,
    /// Whether headings stand out.
    bold: bool,
    /// Whether something was shown that an empty line keeps apart from what follows.
    begun: bool,
    out: W,
}

impl Rows<io::StdoutLock<'static>> {
    /// To stdout.
    pub(crate) fn stdout(form: FormArgs) -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        let size = terminal.then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten();
        Self {
            json: form.json,
            width: size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0),
            bold: terminal && std::env::var_os("NO_COLOR").is_none(),
            begun: false,
            out: out.lock(),
        }
    }
}

impl<W: Write> Rows<W> {
    /// True if it is objects that are wanted, and not text.
    pub(crate) fn are_json(&self) -> bool {
        self.json
    }

    /// One object as a line of JSON.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, object)?;
        writeln!(self.out)
    }

    /// A line of text.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", tame(line).trim_end())
    }

    /// A thing as an object, or shown as text, apart from the one before it.
    pub(crate) fn one<T: Serialize>(
        &mut self,
        thing: &T,
        show: impl FnOnce(&mut Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.json {
            return self.object(thing);
        }
        if std::mem::replace(&mut self.begun, true) {
            writeln!(self.out)?;
        }
        show(self, thing)
    }

    /// A table of these rows, or each of them as an object.
    pub(crate) fn all<T: Serialize, const N: usize>(
        &mut self,
        columns: [Column; N],
        rows: &[T],
        cells: impl Fn(&T) -> [String; N],
    ) -> io::Result<()> {
        if self.json {
            return rows.iter().try_for_each(|row| self.object(row));
        }
        self.table(columns, rows.iter().map(cells))
    }

    /// A table. None, if there are no rows: a heading alone looks as if something were missing.
    pub(crate) fn table<const N: usize>(
        &mut self,
        columns: [Column; N],
        rows: impl Iterator<Item = [String; N]>,
    ) -> io::Result<()> {
        let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| tame(&cell))).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut widths = columns.map(|column| column.name.len());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let heading = columns.map(|column| column.name.to_owned());
        let heading = self.fitted(&columns, &widths, &heading);
        if self.bold {
            writeln!(self.out, "{BOLD}{heading}{PLAIN}")?;
        } else {
            writeln!(self.out, "{heading}")?;
        }
        for row in &rows {
            let line = self.fitted(&columns, &widths, row);
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// A row as a line that the terminal does not break.
    fn fitted(&self, columns: &[Column], widths: &[usize], cells: &[String]) -> String {
        let mut line = String::new();
        for ((column, width), cell) in columns.iter().zip(widths).zip(cells) {
            if !line.is_empty() {
                line.push_str(GAP);
            }
            let written = if column.right {
                write!(line, "{cell:>width$}")
            } else {
                write!(line, "{cell:<width$}")
            };
            written.expect("writing to a string does not fail");
        }
        let line = line.trim_end();
        match self.width {
            Some(width) if line.chars().count() > width => {
                let kept: String = line.chars().take(width.saturating_sub(1)).collect();
                kept + "…"
            }
            _ => line.to_owned(),
        }
    }
}

/// A stranger's text without what would move a cursor.
pub(crate) fn tame(text: &str) -> String {
    text.chars()
        .map(|one| if one.is_control() { '\u{fffd}' } else { one })
        .collect()
}

/// A value, or what stands for none.
pub(crate) fn or_nothing<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(width: Option<usize>, json: bool) -> String {
        let mut rows = Rows {
            json,
            width,
            bold: false,
            begun: false,
            out: Vec::new(),
        };
        let found = [("flights", 12), ("a\x1b[2J", 3)];
        rows.all([text("TOPIC"), number("PARTITIONS")], &found, |(name, partitions)| {
            [(*name).to_owned(), partitions.to_string()]
        })
        .unwrap();
        String::from_utf8(rows.out).unwrap()
    }

    #[test]
    fn a_table_is_aligned_and_shows_no_control_characters() {
        let expected = "TOPIC    PARTITIONS\nflights          12\na\u{fffd}[2J             3\n";
        assert_eq!(printed(None, false), expected);
    }

    #[test]
    fn a_terminal_breaks_no_line() {
        assert!(printed(Some(12), false).lines().all(|line| line.chars().count() <= 12));
        assert!(printed(Some(12), false).starts_with("TOPIC    PA…\n"));
    }

    #[test]
    fn json_is_an_object_a_line() {
        assert_eq!(printed(Some(12), true), "[\"flights\",12]\n[\"a\\u001b[2J\",3]\n");
    }
}
