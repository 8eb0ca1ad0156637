//! What can be wrong with bytes from a peer, and with a message we were asked to write.

/// Why a frame could not be decoded. `at` is the byte position in the frame where the trouble was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message does not exist in this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The frame ends before the value does.
    #[error("truncated at byte {at}: {needed} bytes needed, {remaining} left")]
    Truncated {
        /// Byte position.
        at: usize,
        /// Bytes the value needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A count of elements that cannot fit into the bytes that are left.
    #[error("array of {count} elements at byte {at} cannot fit into {remaining} bytes")]
    ArrayTooLong {
        /// Byte position.
        at: usize,
        /// Elements announced.
        count: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// The decoded form would need more memory than a frame of this size may ask for.
    #[error("decoding at byte {at} needs {needed} bytes of memory, {budget} left of the frame's budget")]
    OverBudget {
        /// Byte position.
        at: usize,
        /// Bytes of memory the array needs.
        needed: usize,
        /// Bytes of memory that may still be used for this frame.
        budget: usize,
    },
    /// A length below -1, or below 0 where null makes no sense.
    #[error("length {length} at byte {at} is negative")]
    NegativeLength {
        /// Byte position.
        at: usize,
        /// The length found.
        length: i32,
    },
    /// Null where this version does not allow it.
    #[error("null at byte {at} where a value is required")]
    UnexpectedNull {
        /// Byte position.
        at: usize,
    },
    /// A string longer than the protocol allows.
    #[error("string of {length} bytes at byte {at} is longer than the protocol allows")]
    StringTooLong {
        /// Byte position.
        at: usize,
        /// Bytes announced.
        length: usize,
    },
    /// A string that is not UTF-8.
    #[error("string at byte {at} is not UTF-8")]
    InvalidUtf8 {
        /// Byte position.
        at: usize,
    },
    /// A variable-length integer that does not fit its type.
    #[error("variable-length integer at byte {at} is too long")]
    InvalidVarint {
        /// Byte position.
        at: usize,
    },
    /// More unknown tagged fields in one section than we are ready to skip.
    #[error("more than {limit} unknown tagged fields at byte {at}")]
    TooManyTags {
        /// Byte position.
        at: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A tagged field whose value is shorter than its announced size.
    #[error("tagged field {tag} ends at byte {at}, {unread} bytes before its announced end")]
    TagNotConsumed {
        /// Byte position.
        at: usize,
        /// Tag number.
        tag: u32,
        /// Bytes that were not read.
        unread: usize,
    },
    /// Bytes after the end of the message.
    #[error("{count} bytes after the end of the message at byte {at}")]
    TrailingBytes {
        /// Byte position.
        at: usize,
        /// How many.
        count: usize,
    },
}

/// Why a message could not be encoded in the version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message does not exist in this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field that matters is set, but this version has no place for it.
    #[error("{field} is set, but version {version} cannot carry it")]
    UnsupportedField {
        /// `Struct.field`.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field is null, but must not be in this version.
    #[error("{field} must not be null")]
    UnexpectedNull {
        /// `Struct.field`.
        field: &'static str,
    },
    /// A string longer than 32,767 bytes, or anything longer than 2 GiB.
    #[error("value of {length} bytes or elements is longer than the protocol allows")]
    TooLong {
        /// Bytes or elements.
        length: usize,
    },
}
