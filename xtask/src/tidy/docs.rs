//! Rules about what documents and comments point at: invariants, paths, links.
//!
//! Owns: what counts as a path of this repository.

use super::lexer::comments_only;
use super::{File, Finding, Tree};

const INVARIANTS_PAGE: &str = "docs/invariants.md";
/// Written from the catalogue.
const METRICS_PAGE: &str = "docs/metrics.md";
const PREFIXES: [&str; 8] = ["LOG", "IDM", "TXN", "GRP", "GC", "CMP", "RET", "MEM"];

/// Every invariant that anything cites stands on the page of invariants.
pub(super) fn invariants_exist(tree: &Tree) -> Vec<Finding> {
    let page = tree.get(INVARIANTS_PAGE).map_or("", |file| file.text.as_str());
    let known: Vec<_> = page.lines().flat_map(invariants).collect();
    let mut found = Vec::new();
    for file in tree.rust().chain(tree.markdown()) {
        for (number, line) in (1..).zip(file.text.lines()) {
            for cited in invariants(line).filter(|cited| !known.contains(cited)) {
                found.push(Finding::new(
                    file,
                    number,
                    format!("{cited} does not stand in {INVARIANTS_PAGE}"),
                ));
            }
        }
    }
    found
}

/// Ids such as the first invariant of the log in a line: a known prefix, a dash, digits.
fn invariants(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    words.filter(|word| {
        let parts = word.split_once('-');
        parts.is_some_and(|(prefix, number)| {
            PREFIXES.contains(&prefix) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// Every path of this repository that documents and comments name exists.
pub(super) fn paths_exist(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().chain(tree.markdown()).filter(|file| !file.is_generated()) {
        let text = if file.has_extension("rs") {
            comments_only(&file.text)
        } else {
            file.text.clone()
        };
        for (number, line) in (1..).zip(text.lines()) {
            for path in backticked(line).filter(|path| looks_like_ours(tree, path)) {
                if !exists(tree, file, path) {
                    found.push(Finding::new(
                        file,
                        number,
                        format!("there is no {path} in this repository"),
                    ));
                }
            }
        }
    }
    found
}

/// Every relative link of a document leads to a file.
pub(super) fn links_lead_somewhere(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.markdown() {
        for (number, line) in (1..).zip(file.text.lines()) {
            for target in line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'))
                .map(|(target, _)| target)
            {
                let path = target.split('#').next().unwrap_or_default();
                let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
                if !elsewhere && !exists(tree, file, path) {
                    found.push(Finding::new(
                        file,
                        number,
                        format!("the link to {target} leads nowhere"),
                    ));
                }
            }
        }
    }
    found
}

/// Every metric that code moves stands in the catalogue, so that it has help, a unit and bounded labels.
pub(super) fn metrics_are_in_the_catalogue(tree: &Tree) -> Vec<Finding> {
    const MACROS: [&str; 3] = ["counter!(\"", "gauge!(\"", "histogram!(\""];
    let page = tree.get(METRICS_PAGE).map_or("", |file| file.text.as_str());
    let mut found = Vec::new();
    for file in tree.rust() {
        for (number, line) in (1..).zip(file.text.lines()) {
            let moved = MACROS
                .iter()
                .filter_map(|opening| line.split_once(opening)?.1.split_once('"'));
            let names = moved
                .map(|(name, _)| name)
                .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            for name in names.filter(|name| !page.contains(&format!("`{name}`"))) {
                let message = format!("{name} does not stand in agent/src/telemetry/catalogue.rs");
                found.push(Finding::new(file, number, message));
            }
        }
    }
    found
}

/// Every metric of the catalogue is moved by somebody.
pub(super) fn the_catalogue_has_no_dead_rows(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.get(METRICS_PAGE) else {
        return Vec::new();
    };
    let product = tree
        .rust()
        .filter(|file| !file.is_test() && !file.path.starts_with("agent/src/telemetry/"));
    let code: Vec<_> = product.map(|file| file.text.as_str()).collect();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        let name = line
            .strip_prefix("| `esker_")
            .and_then(|rest| rest.split_once('`'))
            .map(|(name, _)| name);
        let quoted = name.map(|name| format!("\"esker_{name}\""));
        if let Some(quoted) = quoted.filter(|quoted| !code.iter().any(|text| text.contains(quoted))) {
            found.push(Finding::new(page, number, format!("nothing moves {quoted}")));
        }
    }
    found
}

fn backticked(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A path whose first part lies at the top of the repository, or that names a file of a kind we keep. Patterns,
/// placeholders, commands, routes and things that a run makes do not count.
fn looks_like_ours(tree: &Tree, path: &str) -> bool {
    const KEPT: [&str; 7] = ["rs", "md", "toml", "json", "proto", "py", "sh"];
    let Some((first, rest)) = path.split_once('/') else {
        return false;
    };
    let plain = path
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    if !plain || first.is_empty() || first == ".." || rest.starts_with('/') || first == "target" {
        return false;
    }
    let kept = path
        .rsplit_once('.')
        .is_some_and(|(_, extension)| KEPT.contains(&extension));
    kept || (first != "." && tree.has_path(first))
}

/// From the root of the repository, or from where the document lies, or from the source directory of its crate.
fn exists(tree: &Tree, file: &File, path: &str) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    if tree.has_path(path) {
        return true;
    }
    let mut base = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut path = path;
    while let Some(above) = path.strip_prefix("../") {
        path = above;
        base = base.rsplit_once('/').map_or("", |(directory, _)| directory);
    }
    let crate_of = file.path.split_once("/src/").map_or(base, |(directory, _)| directory);
    let from = |base: &str| {
        if base.is_empty() {
            path.to_owned()
        } else {
            format!("{base}/{path}")
        }
    };
    tree.has_path(&from(base)) || tree.has_path(&from(crate_of)) || tree.has_path(&from(&format!("{crate_of}/src")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        rule(&Tree::of(files))
            .into_iter()
            .map(|finding| format!("{}:{}", finding.path, finding.line))
            .collect()
    }

    #[test]
    fn an_invariant_that_nobody_wrote_down_is_found() {
        // Put together here, so that this file cites nothing that does not exist.
        let (known, unknown) = (format!("LOG-{}", 1), format!("LOG-{}", 99));
        let page = format!("- {known} one value per offset\n");
        let code = format!("//! Invariants: {known}.\n//! And {unknown}, MY{unknown}, LOG-x.\n");
        let found = messages(invariants_exist, &[(INVARIANTS_PAGE, &page), ("a/src/lib.rs", &code)]);
        assert_eq!(found, ["a/src/lib.rs:2"]);
        assert_eq!(
            messages(invariants_exist, &[("a/src/lib.rs", &code)]).len(),
            2,
            "no page, no invariants"
        );
    }

    #[test]
    fn a_path_that_does_not_exist_is_found() {
        let text = "`agent/src/gone.rs` and `agent/src/lib.rs`\n`/metrics`, `log/e/x`, `a/b c`, `agent/src/*.rs`\n\
                    `agent/none`, `agent`, `elsewhere/x.toml`, `application/json`, `target/x.json`\n";
        let found = messages(paths_exist, &[("README.md", text), ("agent/src/lib.rs", "")]);
        assert_eq!(found, ["README.md:1", "README.md:3", "README.md:3"]);
    }

    #[test]
    fn a_path_in_a_comment_is_checked_and_in_code_is_not() {
        let code = "//! See `docs/gone.md`.\nlet x = \"`docs/gone.md`\";\n// `src/lib.rs`, `http/pages.rs`\n";
        let files = [
            ("agent/src/lib.rs", code),
            ("agent/src/http/pages.rs", ""),
            ("docs/here.md", ""),
        ];
        assert_eq!(messages(paths_exist, &files), ["agent/src/lib.rs:1"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](b.md) [c](../README.md#top) [d](#here) [e](https://example.org/x)\n[f](gone.md)\n";
        let files = [("docs/a.md", text), ("docs/b.md", ""), ("README.md", "")];
        assert_eq!(messages(links_lead_somewhere, &files), ["docs/a.md:2"]);
    }

    #[test]
    fn a_metric_without_a_row_is_found() {
        // Put together here, so that this file moves no metric itself.
        let code = ["metrics::counter!(", "gauge!("].map(|macro_| format!("{macro_}\"esker_x\").increment(1);"));
        let code = format!("//! X.\n{}\n{}\n", code[0], code[1].replace("_x", "_y"));
        let files = [("a/src/lib.rs", code.as_str()), (METRICS_PAGE, "| `esker_y` | gauge |")];
        assert_eq!(messages(metrics_are_in_the_catalogue, &files), ["a/src/lib.rs:2"]);
    }

    #[test]
    fn a_row_that_nothing_moves_is_found() {
        let page = "| `esker_x` | counter |\n| `esker_y_total` | counter |\n| `process_z` | gauge |\n";
        let files = [
            (METRICS_PAGE, page),
            ("a/src/lib.rs", "counter!(\n    \"esker_x\");"),
            ("agent/src/telemetry/catalogue.rs", "\"esker_y_total\""),
            ("a/src/tests.rs", "\"esker_y_total\""),
        ];
        assert_eq!(messages(the_catalogue_has_no_dead_rows, &files), ["docs/metrics.md:2"]);
    }
}
