//! Zigzag variable-length integers, as records use them.

use bytes::BufMut;

/// Most bytes of a 32-bit one.
pub(crate) const VARINT_BYTES_MAX: usize = 5;
/// Most bytes of a 64-bit one.
pub(crate) const VARLONG_BYTES_MAX: usize = 10;

/// Reads a 64-bit value from the front of `bytes`: the value and how many bytes it took. `None` if it is cut off
/// or too long.
pub(crate) fn read_i64(bytes: &[u8]) -> Option<(i64, usize)> {
    let (raw, used) = read_raw(bytes, VARLONG_BYTES_MAX)?;
    Some((unzigzag(raw), used))
}

/// Reads a 32-bit value from the front of `bytes`.
pub(crate) fn read_i32(bytes: &[u8]) -> Option<(i32, usize)> {
    let (raw, used) = read_raw(bytes, VARINT_BYTES_MAX)?;
    // Kafka's reader keeps the low 32 bits of a fifth byte; nobody writes more.
    let raw = u32::try_from(raw).ok()?;
    Some((i32::try_from(unzigzag(u64::from(raw))).ok()?, used))
}

fn read_raw(bytes: &[u8], longest: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(longest).enumerate() {
        let shift = 7 * u32::try_from(i).ok()?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

/// Appends a value; 32-bit ones are written the same way.
pub(crate) fn put_i64(out: &mut impl BufMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest.to_le_bytes()[0]);
}

/// How many bytes [`put_i64`] appends.
pub(crate) fn len_i64(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("at most ten")
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unzigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_with_the_predicted_length() {
        let mut values = vec![0i64, -1, 1, 63, -64, 64, -65, i64::MAX, i64::MIN];
        values.extend((0..63).flat_map(|bit| [1i64 << bit, -(1i64 << bit), (1i64 << bit) - 1]));
        for value in values {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            assert_eq!(out.len(), len_i64(value), "{value}");
            assert_eq!(read_i64(&out), Some((value, out.len())));
            if let Ok(short) = i32::try_from(value) {
                assert_eq!(read_i32(&out), Some((short, out.len())));
            } else {
                assert_eq!(read_i32(&out), None, "{value}");
            }
            assert_eq!(read_i64(&out[..out.len() - 1]), None);
        }
    }

    #[test]
    fn overlong_values_are_refused() {
        assert_eq!(read_i32(&[0xff; 5]), None);
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(read_i64(&[0xff; 10]), None);
        assert_eq!(
            read_i64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
            None
        );
        assert_eq!(read_i64(&[]), None);
    }
}
