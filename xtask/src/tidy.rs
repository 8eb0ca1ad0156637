//! `cargo xtask tidy`: the rules of the house that a machine can check.
//!
//! Owns: reading the tree, the list of rules, what a finding looks like.
//! Does not own: what `rustfmt` and clippy already check.
//!
//! Invariants: every rule has a test that shows it a bad sample and wants a finding.

mod crates;
mod docs;
mod layout;
mod lexer;
mod source;

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 5] = ["target", ".git", "esker-data", "node_modules", "__pycache__"];

/// What the rules look at; everything else in the tree is known by its path only.
const READ: [&str; 3] = ["rs", "md", "toml"];

/// A rule that is broken, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &File, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: file.path.clone(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// One file of the tree.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root of the repository, with slashes.
    path: String,
    /// Empty unless the rules read this kind of file.
    text: String,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }

    /// File name without extension.
    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split_once('.').map_or(name, |(stem, _)| stem)
    }

    fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// Tests, benches and examples: code that no product runs.
    fn is_test(&self) -> bool {
        self.stem() == "tests"
            || self
                .path
                .split('/')
                .any(|part| matches!(part, "tests" | "benches" | "examples"))
    }
}

/// Everything in the repository that the rules may look at.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<File>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn read_directory(&mut self, root: &Path, directory: &str) -> Result<()> {
        let entries = std::fs::read_dir(root.join(directory)).with_context(|| format!("cannot list {directory:?}"))?;
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = if directory.is_empty() {
                name.clone()
            } else {
                format!("{directory}/{name}")
            };
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.read_directory(root, &path)?;
            } else if kind.is_file() {
                let mut file = File {
                    path,
                    text: String::new(),
                };
                if READ.iter().any(|extension| file.has_extension(extension)) {
                    let read = std::fs::read_to_string(entry.path());
                    file.text = read.with_context(|| format!("cannot read {}", file.path))?;
                }
                self.files.push(file);
            }
        }
        Ok(())
    }

    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.has_extension("rs"))
    }

    fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.has_extension("md"))
    }

    fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether this is a file or a directory with a file in it.
    fn has_path(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        self.files
            .iter()
            .any(|file| file.path == path || file.path.starts_with(&directory))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [Rule; 13] = [
    layout::modules_say_what_they_own,
    layout::names_say_something,
    layout::files_stay_short,
    crates::edges_match_the_table,
    crates::outside_crates_match_the_table,
    source::every_select_is_biased,
    source::nothing_is_left_open,
    source::outside_crates_have_one_home,
    docs::invariants_exist,
    docs::paths_exist,
    docs::links_lead_somewhere,
    docs::metrics_are_in_the_catalogue,
    docs::the_catalogue_has_no_dead_rows,
];

/// Every broken rule in the tree under `root`.
pub(crate) fn findings(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut found: Vec<_> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    found.sort();
    Ok(found)
}

/// Fails with the list of findings, if there are any.
pub(crate) fn run(root: &Path) -> Result<()> {
    let found = findings(root)?;
    if found.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = found.iter().map(|finding| format!("  {finding}\n")).collect();
    bail!("{} untidy places:\n{}", found.len(), lines.concat().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        if let Err(error) = run(&crate::root()) {
            panic!("{error}");
        }
    }

    #[test]
    fn the_tree_is_read_at_all() {
        let tree = Tree::read(&crate::root()).unwrap();
        for path in ["xtask/src/tidy.rs", "Cargo.toml", "docs/glossary.md"] {
            assert!(tree.get(path).is_some_and(|file| !file.text.is_empty()), "{path}");
        }
        assert!(tree.files.iter().all(|file| !file.path.starts_with("target/")));
    }
}
