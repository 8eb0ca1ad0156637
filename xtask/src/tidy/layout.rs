//! Rules about files: what the first line says, what they are called, how long they may be.
//!
//! Owns: the ceiling on length and the list of files that are above it and may only shrink.

use super::{Finding, Tree};

/// Lines of product code in one file, its tests not counted. Above about 300 a file may want to be two.
const LINES_MAX: usize = 700;

/// Files above the ceiling, and how long each may be at most. Only ever lower a number or take a line away.
const RATCHET: &[(&str, usize)] = &[];

/// Words that name a drawer, not a thing.
const DRAWERS: [&str; 7] = ["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// Every module begins with what it owns.
pub(super) fn modules_say_what_they_own(tree: &Tree) -> Vec<Finding> {
    let silent = tree.rust().filter(|file| !file.text.starts_with("//!"));
    silent
        .map(|file| Finding::new(file, 1, "the first line must be `//! ` and say what the module owns"))
        .collect()
}

/// No module is called after a drawer.
pub(super) fn names_say_something(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !file.is_generated()) {
        let without_extension = file.path.trim_end_matches(".rs");
        let drawer = without_extension.split(['/', '_']).find(|word| DRAWERS.contains(word));
        if let Some(drawer) = drawer {
            found.push(Finding::new(
                file,
                1,
                format!("{drawer:?} names a drawer; name the thing that is in it"),
            ));
        }
        for (number, line) in (1..).zip(super::lexer::code_only(&file.text).lines()) {
            let mut words = line.split_whitespace().skip_while(|word| *word != "mod").skip(1);
            let name = words.next().map(|word| word.trim_end_matches([';', '{']));
            if let Some(name) = name.filter(|name| name.split('_').any(|word| DRAWERS.contains(&word))) {
                found.push(Finding::new(
                    file,
                    number,
                    format!("module {name:?} names a drawer, not a thing"),
                ));
            }
        }
    }
    found
}

/// No file outgrows the ceiling, and those above it shrink.
pub(super) fn files_stay_short(tree: &Tree) -> Vec<Finding> {
    lengths_obey(tree, RATCHET)
}

fn lengths_obey(tree: &Tree, ratchet: &[(&str, usize)]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !file.is_generated() && !file.is_test()) {
        let lines = product_lines(&file.text);
        let allowed = ratchet
            .iter()
            .find(|(path, _)| *path == file.path)
            .map(|(_, lines)| *lines);
        match allowed {
            None if lines > LINES_MAX => {
                let message = format!("{lines} lines without tests, and {LINES_MAX} is the ceiling; split it");
                found.push(Finding::new(file, lines, message));
            }
            Some(allowed) if lines > allowed => {
                let message = format!("{lines} lines, above its own ceiling of {allowed}; split it");
                found.push(Finding::new(file, lines, message));
            }
            Some(allowed) if lines < allowed => {
                let message = format!("{lines} lines now: lower its ceiling of {allowed} in xtask/src/tidy/layout.rs");
                found.push(Finding::new(file, lines, message));
            }
            None | Some(_) => {}
        }
    }
    found
}

/// Lines before the test module at the end.
fn product_lines(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_first_line_is_found() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "//! Owns a.\n"),
            ("a/src/b.rs", "use c;\n"),
            ("a/src/c.rs", ""),
        ]);
        let found: Vec<_> = modules_say_what_they_own(&tree)
            .into_iter()
            .map(|finding| finding.path)
            .collect();
        assert_eq!(found, ["a/src/b.rs", "a/src/c.rs"]);
    }

    #[test]
    fn drawers_are_found_by_file_directory_and_inline_module() {
        let tree = Tree::of(&[
            ("a/src/utils.rs", ""),
            ("a/src/common/x.rs", ""),
            ("a/src/log_manager.rs", ""),
            (
                "a/src/fine.rs",
                "// mod utils is forbidden\npub(crate) mod test_helpers {\n}\n",
            ),
            ("a/src/commonplace.rs", "mod module;"),
        ]);
        let found: Vec<_> = names_say_something(&tree)
            .into_iter()
            .map(|finding| (finding.path, finding.line))
            .collect();
        let wanted = [
            ("a/src/utils.rs", 1),
            ("a/src/common/x.rs", 1),
            ("a/src/log_manager.rs", 1),
            ("a/src/fine.rs", 2),
        ];
        assert_eq!(found, wanted.map(|(path, line)| (path.to_owned(), line)));
    }

    #[test]
    fn a_long_file_is_found_and_tests_do_not_count() {
        let long = "x\n".repeat(LINES_MAX + 1);
        let with_tests = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "x\n".repeat(LINES_MAX));
        let tree = Tree::of(&[
            ("a/src/long.rs", &long),
            ("a/src/fine.rs", &with_tests),
            ("a/src/b/tests.rs", &long),
            ("a/tests/whole.rs", &long),
            ("a/src/generated/api.rs", &long),
        ]);
        let found = lengths_obey(&tree, &[]);
        assert_eq!(
            found.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(),
            ["a/src/long.rs"]
        );
    }

    #[test]
    fn the_ratchet_only_turns_one_way() {
        let tree = Tree::of(&[
            ("a.rs", &"x\n".repeat(800)),
            ("b.rs", &"x\n".repeat(800)),
            ("c.rs", &"x\n".repeat(800)),
        ]);
        let found = lengths_obey(&tree, &[("a.rs", 800), ("b.rs", 799), ("c.rs", 801)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].path == "b.rs" && found[0].message.contains("split"));
        assert!(found[1].path == "c.rs" && found[1].message.contains("lower"));
    }
}
