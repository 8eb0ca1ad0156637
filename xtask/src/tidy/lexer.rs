//! Rust source with its comments and literals blanked, so that rules do not trip over what code merely mentions.
//!
//! Owns: just enough of Rust's lexical grammar: comments (nested), strings (raw, byte, C), characters, lifetimes.
//! Does not own: parsing.
//!
//! Invariants: the result has the same length and the same lines as the source.

/// The code of `source`; every byte of a comment or literal but the line breaks becomes a space.
pub(super) fn code_only(source: &str) -> String {
    blank(source, |kind| kind == Kind::Code)
}

/// The comments of `source`; everything else becomes a space.
pub(super) fn comments_only(source: &str) -> String {
    blank(source, |kind| kind == Kind::Comment)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

fn blank(source: &str, keep: impl Fn(Kind) -> bool) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut previous = ' ';
    while !rest.is_empty() {
        let (kind, length) = token(rest, previous);
        let (taken, left) = rest.split_at(length);
        previous = taken.chars().next_back().unwrap_or(' ');
        if keep(kind) {
            out.push_str(taken);
        } else {
            out.extend(taken.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
        rest = left;
    }
    out
}

/// The kind and length of what `rest` begins with; code goes one character at a time.
fn token(rest: &str, previous: char) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    let in_word = previous.is_alphanumeric() || previous == '_';
    if (!in_word || rest.starts_with('"'))
        && let Some(length) = string(rest)
    {
        return (Kind::Literal, length);
    }
    if let Some(length) = character(rest) {
        return (Kind::Literal, length);
    }
    (Kind::Code, rest.chars().next().map_or(0, char::len_utf8))
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// A string literal with any prefix (`r`, `b`, `c`, `br`, `cr`) and any number of hashes.
fn string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix);
        after.is_some_and(|after| after.starts_with('"') || (prefix.ends_with('r') && after.starts_with('#')))
    })?;
    let hashes = rest[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let open = prefix.len() + hashes;
    if rest.as_bytes().get(open) != Some(&b'"') {
        return None;
    }
    let body = &rest[open + 1..];
    if prefix.ends_with('r') {
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(body.find(&close).map_or(rest.len(), |at| open + 1 + at + close.len()));
    }
    Some(closing_quote(body, b'"').map_or(rest.len(), |at| open + 1 + at + 1))
}

/// A character literal; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if body.starts_with('\\') {
        return closing_quote(body, b'\'').map(|at| at + 2);
    }
    let first = body.chars().next()?;
    body[first.len_utf8()..]
        .starts_with('\'')
        .then_some(first.len_utf8() + 2)
}

/// Where the first quote is that no backslash escapes.
fn closing_quote(body: &str, quote: u8) -> Option<usize> {
    let mut escaped = false;
    body.bytes().position(|byte| {
        let closes = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y") + 1"#, "f(      ) + 1"),
            (r##"r#"a"b"# z"##, "         z"),
            ("b\"q\" br\"\\\" c", "           c"),
            ("'a' '\\'' 'b", "         'b"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("bar\"x\"", "bar   "),
            ("r#type", "r#type"),
            ("\"å\"x", "    x"),
        ];
        for (source, wanted) in cases {
            assert_eq!(code_only(source), wanted, "{source}");
        }
    }

    #[test]
    fn comments_alone() {
        assert_eq!(comments_only("a // \"b\"\n\"// c\""), "  // \"b\"\n      ");
    }

    #[test]
    fn length_and_lines_are_kept() {
        let source = "/* é\n */ let s = \"a\nb\"; // end";
        assert_eq!(code_only(source).len(), source.len());
        assert_eq!(code_only(source).lines().count(), source.lines().count());
    }
}
