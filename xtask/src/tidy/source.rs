//! Rules about code: biased selects, nothing left open, outside crates named in one place.

use super::lexer::{code_only, comments_only};
use super::{Finding, Tree};

/// Crates that only one file may name, or only files of one directory, so that replacing them is work at one place.
const ONE_HOME: [(&str, Option<&str>); 2] = [
    ("object_store", None),
    ("etcd_client", Some("metadata/store/src/etcd/")),
];

/// Every `select!` says `biased;` first: with paused time and a seed, the same run happens again.
pub(super) fn every_select_is_biased(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| file.text.contains("select!")) {
        let code = code_only(&file.text);
        for (at, _) in code.match_indices("select!") {
            let whole_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let body = code[at + "select!".len()..]
                .trim_start()
                .trim_start_matches(['{', '(', '['])
                .trim_start();
            if whole_word && !body.starts_with("biased;") {
                found.push(Finding::new(
                    file,
                    line_of(&code, at),
                    "`select!` must begin with `biased;`",
                ));
            }
        }
    }
    found
}

/// No code that says it will be written some day, no test that does not run.
pub(super) fn nothing_is_left_open(tree: &Tree) -> Vec<Finding> {
    const IN_CODE: [&str; 4] = ["todo!", "unimplemented!", "#[ignore", "dbg!"];
    const IN_COMMENTS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !file.is_generated()) {
        let (code, comments) = (code_only(&file.text), comments_only(&file.text));
        let in_code = IN_CODE.iter().map(|mark| (&code, mark));
        let in_comments = IN_COMMENTS.iter().map(|mark| (&comments, mark));
        for (text, mark) in in_code.chain(in_comments) {
            for (at, _) in text.match_indices(mark) {
                let attached = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                    || text[at + mark.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
                if !attached {
                    found.push(Finding::new(
                        file,
                        line_of(text, at),
                        format!("{mark} leaves something open"),
                    ));
                }
            }
        }
    }
    found
}

/// Each crate of `ONE_HOME` is named where it is at home only.
pub(super) fn outside_crates_have_one_home(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, directory) in ONE_HOME {
        let mut homes = Vec::new();
        for file in tree.rust().filter(|file| file.text.contains(name)) {
            let code = code_only(&file.text);
            let at_home = directory.is_some_and(|directory| file.path.starts_with(directory));
            if let Some(at) = first_use(&code, name)
                && !at_home
            {
                homes.push((file, line_of(&code, at)));
            }
        }
        let (home, others) = match (directory, homes.as_slice()) {
            (Some(directory), others) => (directory, others),
            (None, [(home, _), others @ ..]) => (home.path.as_str(), others),
            (None, []) => continue,
        };
        for (file, line) in others {
            let message = format!("{name} is at home in {home}; use its seam");
            found.push(Finding::new(file, *line, message));
        }
    }
    found
}

/// Where a crate is used as the root of a path.
fn first_use(code: &str, name: &str) -> Option<usize> {
    let path = format!("{name}::");
    let used = |(at, _): (usize, &str)| {
        let inner = code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
        (!inner).then_some(at)
    };
    code.match_indices(&path).find_map(used)
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Tree) -> Vec<Finding>, text: &str) -> Vec<usize> {
        rule(&Tree::of(&[("a/src/a.rs", text)]))
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn an_unbiased_select_is_found() {
        let fair = "\ntokio::select! {\n    _ = a => {}\n}\nselect!(x = y => {});\n";
        assert_eq!(lines(every_select_is_biased, fair), [2, 5]);
        let biased =
            "select! {\n  // first come, first served\n  biased;\n  _ = a => {}\n}\n// select! { x }\nreselect! {}";
        assert_eq!(lines(every_select_is_biased, biased), [0; 0]);
    }

    #[test]
    fn what_is_left_open_is_found() {
        let open = "fn a() {\n    todo!()\n}\n// FIXME: b\n#[ignore = \"slow\"]\nfn c() { unimplemented!(\"d\") }\n";
        let mut found = lines(nothing_is_left_open, open);
        found.sort_unstable();
        assert_eq!(found, [2, 4, 5, 6]);
        let closed = "let text = \"todo!\"; // the word ignored is fine, and so is TODOS\nfn not_todo() {}\n";
        assert_eq!(lines(nothing_is_left_open, closed), [0; 0]);
    }

    #[test]
    fn a_second_home_is_found() {
        let tree = Tree::of(&[
            ("s/src/bucket.rs", "use object_store::path::Path;"),
            (
                "s/src/other.rs",
                "//! Not about object_store::X.\nuse crate::object_store::mine;\nuse super::Store;",
            ),
            ("s/src/second.rs", "\nfn f(x: object_store::Error) {}"),
        ]);
        let found = outside_crates_have_one_home(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line), ("s/src/second.rs", 2));
        let tree = Tree::of(&[
            ("metadata/store/src/etcd/a.rs", "use etcd_client::Client;"),
            ("metadata/store/src/etcd/b.rs", "use etcd_client::Error;"),
            ("metadata/store/src/log.rs", "use etcd_client::Error;"),
        ]);
        let found = outside_crates_have_one_home(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "metadata/store/src/log.rs");
    }
}
