//! 128-bit identifiers as Kafka writes them: on the wire big-endian, as text URL-safe base64 without padding.

use std::fmt;

/// A topic, directory or member id. All zero means "none".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

impl Uuid {
    /// The reserved "no id".
    pub const ZERO: Self = Self(0);

    /// True for [`Uuid::ZERO`].
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The id from its 16 bytes in wire order.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The 16 bytes in wire order.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Parses the 22 characters that [`fmt::Display`] writes; `None` if they are anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        let mut value: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let digit = u128::from(digit_value(c)?);
            // The last character carries two bits; its low four must be zero.
            if i == 21 {
                if digit & 0xf != 0 {
                    return None;
                }
                value = (value << 2) | (digit >> 4);
            } else {
                value = (value << 6) | digit;
            }
        }
        Some(Self(value))
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn digit_value(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in 0..22u32 {
            // 22 digits hold 132 bits: the value is padded with four zero bits at the end.
            let digit = if i == 21 {
                (self.0 & 0x3) << 4
            } else {
                (self.0 >> (122 - 6 * i)) & 0x3f
            };
            let index = usize::try_from(digit).expect("six bits fit");
            write!(f, "{}", char::from(DIGITS[index]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_kafkas() {
        // org.apache.kafka.common.Uuid.fromString("MkU3OEVBNTcwNTJENDM2Qg")
        let id = Uuid::parse("MkU3OEVBNTcwNTJENDM2Qg").unwrap();
        assert_eq!(id.to_bytes(), *b"2E78EA57052D436B");
        assert_eq!(id.to_string(), "MkU3OEVBNTcwNTJENDM2Qg");
    }

    #[test]
    fn text_round_trips_and_rejects_garbage() {
        for v in [0, 1, u128::MAX, 1 << 127, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978] {
            assert_eq!(Uuid::parse(&Uuid(v).to_string()), Some(Uuid(v)));
        }
        for bad in [
            "",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }
}
