//! Kafka's dialect of JSON: the standard one, and `//` comments.

/// The text without its comments.
pub(crate) fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(before_comment(line));
        out.push('\n');
    }
    out
}

/// The part of a line before a `//` that is not in a string. Strings do not span lines.
fn before_comment(line: &str) -> &str {
    let mut in_string = false;
    let mut escaped = false;
    let mut previous = ' ';
    for (position, c) in line.char_indices() {
        if in_string {
            if !escaped && c == '"' {
                in_string = false;
            }
            escaped = !escaped && c == '\\';
        } else if c == '"' {
            in_string = true;
        } else if c == '/' && previous == '/' {
            return &line[..position - 1];
        }
        previous = if in_string { ' ' } else { c };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strings_stay() {
        assert_eq!(
            without_comments("// x\n{\"a\": \"http://b\"} // c\n"),
            "\n{\"a\": \"http://b\"} \n"
        );
        assert_eq!(without_comments(r#""\"//" // d"#), "\"\\\"//\" \n");
    }
}
