//! Typed keys: what stands under each key of the coordination store, and how it is encoded.
//!
//! Owns: key names and value formats, one file for each key. `docs/formats/metadata-keys.md` has the layout.
//! Does not own: who may change a key and when (`log`, the agent).
//!
//! Invariants: numbers in keys are sixteen lower-case hex digits, so that key order is numeric order. Every value begins
//! with a format version. A value has exactly one encoding, so that a compare of values is a compare of meanings.

pub mod commit;
pub mod config;
pub mod counter;
pub mod group;
pub mod group_member;
pub mod group_writes;
pub mod head;
pub mod incarnation;
pub mod leader;
pub mod node;
pub mod owner;
pub mod published;
pub mod quota;
pub mod record;
pub mod root;
pub mod scram;
pub mod session;
pub mod topic;
pub mod void;

use bytes::Bytes;
use esker_segment::wire::{Decoder, Encoder, FormatError};

/// Digits of a number in a key.
const DIGITS: usize = 16;

/// A number as it stands in a key.
fn digits(number: u64) -> [u8; DIGITS] {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let mut digits = [b'0'; DIGITS];
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit = HEX[usize::try_from(left & 0xf).expect("four bits")];
        left >>= 4;
    }
    digits
}

/// The inverse of [`digits`].
fn parse_digits(text: &[u8]) -> Option<u64> {
    let canonical = text.len() == DIGITS && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(text).ok().filter(|_| canonical)?;
    u64::from_str_radix(text, 16).ok()
}

/// A key of a family that has one number.
fn numbered(prefix: &str, number: u64) -> Bytes {
    Bytes::from([prefix.as_bytes(), &digits(number)].concat())
}

fn parse_numbered(prefix: &str, key: &[u8]) -> Option<u64> {
    parse_digits(key.strip_prefix(prefix.as_bytes())?)
}

/// Begins a value with its format version.
fn encoder(version: u8) -> Encoder {
    let mut out = Encoder::new();
    out.u8(version);
    out
}

/// Opens a value and checks its format version.
fn decoder<'a>(what: &'static str, known: u8, value: &'a [u8]) -> Result<Decoder<'a>, FormatError> {
    let mut input = Decoder::new(value);
    let found = input.u8()?;
    if found == known {
        Ok(input)
    } else {
        Err(FormatError::Version {
            what,
            found: u16::from(found),
            known: u16::from(known),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_is_numeric_order() {
        let numbers = [0, 1, 9, 10, 255, 256, 1 << 32, u64::MAX];
        let keys: Vec<Bytes> = numbers.iter().map(|number| numbered("x/", *number)).collect();
        assert!(keys.is_sorted());
        for (number, key) in numbers.iter().zip(&keys) {
            assert_eq!(parse_numbered("x/", key), Some(*number));
        }
    }

    #[test]
    fn only_the_canonical_form_of_a_number_is_read() {
        for text in [
            "",
            "0",
            "000000000000000A",
            "+00000000000000a",
            "00000000000000000",
            "000000000000000g",
        ] {
            assert_eq!(parse_digits(text.as_bytes()), None, "{text:?}");
        }
    }
}
