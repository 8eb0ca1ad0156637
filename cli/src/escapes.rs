//! Bytes as somebody writes them on a command line: `\t`, `\0`, `\x1f`.

use std::str::Chars;

/// Why there is no such byte.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EscapeError {
    #[error("there is no escape \\{0}; there are \\n \\t \\r \\0 \\\\ and \\xHH")]
    Unknown(char),
    #[error("it ends within an escape")]
    Unfinished,
}

/// The bytes of a text with escapes.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        push(&mut bytes, next, &mut rest)?;
    }
    Ok(bytes)
}

/// Appends a character, or what the escape that it begins stands for.
pub(crate) fn push(bytes: &mut Vec<u8>, first: char, rest: &mut Chars<'_>) -> Result<(), EscapeError> {
    let byte = match first {
        '\\' => escaped(rest)?,
        other => {
            bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
    };
    bytes.push(byte);
    Ok(())
}

fn escaped(rest: &mut Chars<'_>) -> Result<u8, EscapeError> {
    Ok(match rest.next().ok_or(EscapeError::Unfinished)? {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let digits = rest.as_str().get(..2).ok_or(EscapeError::Unfinished)?;
            let byte = u8::from_str_radix(digits, 16).map_err(|_| EscapeError::Unknown('x'))?;
            rest.nth(1);
            byte
        }
        other => return Err(EscapeError::Unknown(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes() {
        assert_eq!(
            unescape("a\\t\\x1f\\xff\\0\\\\ä").unwrap(),
            [b"a\t\x1f\xff\0\\", "ä".as_bytes()].concat()
        );
        assert_eq!(unescape("\\q"), Err(EscapeError::Unknown('q')));
        assert_eq!(unescape("\\xzz"), Err(EscapeError::Unknown('x')));
        assert_eq!(unescape("\\x4"), Err(EscapeError::Unfinished));
        assert_eq!(unescape("\\"), Err(EscapeError::Unfinished));
    }
}
