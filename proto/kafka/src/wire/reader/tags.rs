//! Sections of tagged fields (KIP-482).

use super::{Reader, Result};
use crate::wire::DecodeError;

/// Most unknown tagged fields that are skipped in one section.
pub const UNKNOWN_TAGS_MAX: usize = 64;

/// A tagged field being read.
pub(crate) struct Tag {
    pub(crate) id: u32,
    outer_end: usize,
}

/// A section of tagged fields being read.
pub(crate) struct TagSection {
    left: u32,
    unknown: usize,
}

impl Reader {
    /// Starts a section of tagged fields.
    pub(crate) fn tag_section(&mut self) -> Result<TagSection> {
        Ok(TagSection {
            left: self.uvarint()?,
            unknown: 0,
        })
    }

    /// The next tagged field; reads are confined to its value until [`Reader::end_tag`].
    pub(crate) fn next_tag(&mut self, section: &mut TagSection) -> Result<Option<Tag>> {
        if section.left == 0 {
            return Ok(None);
        }
        section.left -= 1;
        let id = self.uvarint()?;
        let at = self.pos;
        let size = self.uvarint()?;
        let size = usize::try_from(size).map_err(|_| DecodeError::InvalidVarint { at })?;
        let remaining = self.remaining();
        if size > remaining {
            return Err(DecodeError::Truncated {
                at,
                needed: size,
                remaining,
            });
        }
        let tag = Tag {
            id,
            outer_end: self.end,
        };
        self.end = self.pos + size;
        Ok(Some(tag))
    }

    /// Passes over the value of a tagged field that we do not know.
    pub(crate) fn skip_tag(&mut self, section: &mut TagSection) -> Result<()> {
        section.unknown += 1;
        if section.unknown > UNKNOWN_TAGS_MAX {
            return Err(DecodeError::TooManyTags {
                at: self.pos,
                limit: UNKNOWN_TAGS_MAX,
            });
        }
        self.pos = self.end;
        Ok(())
    }

    /// Leaves a tagged field, whose value must have been read in full.
    #[expect(clippy::needless_pass_by_value, reason = "the field is over")]
    pub(crate) fn end_tag(&mut self, tag: Tag) -> Result<()> {
        let unread = self.remaining();
        if unread != 0 {
            return Err(DecodeError::TagNotConsumed {
                at: self.pos,
                tag: tag.id,
                unread,
            });
        }
        self.end = tag.outer_end;
        Ok(())
    }

    /// Passes over a whole section of which we know no field.
    pub(crate) fn skip_tags(&mut self) -> Result<()> {
        let mut section = self.tag_section()?;
        while let Some(tag) = self.next_tag(&mut section)? {
            self.skip_tag(&mut section)?;
            self.end_tag(tag)?;
        }
        Ok(())
    }
}
