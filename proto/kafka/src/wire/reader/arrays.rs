//! Arrays: counts are bounded by the rest of the frame and by its memory budget before anything is allocated.

use super::{Reader, Result};
use crate::wire::{DecodeError, Str, Uuid};

/// Arrays of structs, and what all arrays share.
impl Reader {
    /// An array's element count: at most what fits into the rest of the frame when one element takes at least
    /// `wire_min` bytes.
    fn array_count(&mut self, flex: bool, wire_min: usize) -> Result<Option<usize>> {
        let at = self.pos;
        let Some(count) = self.length(flex)? else {
            return Ok(None);
        };
        let remaining = self.remaining();
        if count > remaining / wire_min {
            return Err(DecodeError::ArrayTooLong { at, count, remaining });
        }
        Ok(Some(count))
    }

    /// Takes the memory for `count` elements of `size` bytes from the frame's budget.
    fn charge(&mut self, at: usize, count: usize, size: usize) -> Result<()> {
        let needed = count.saturating_mul(size);
        if needed > self.budget {
            return Err(DecodeError::OverBudget {
                at,
                needed,
                budget: self.budget,
            });
        }
        self.budget -= needed;
        Ok(())
    }

    /// The count of an array of structs of `size` bytes in memory, checked and charged as when they are decoded.
    pub(crate) fn struct_count(&mut self, flex: bool, wire_min: usize, size: usize) -> Result<usize> {
        let at = self.pos;
        let count = self.array_count(flex, wire_min)?;
        let count = Self::not_null(at, count)?;
        self.charge(at, count, size)?;
        Ok(count)
    }

    fn items<T>(&mut self, flex: bool, wire_min: usize, item: fn(&mut Self) -> Result<T>) -> Result<Option<Vec<T>>> {
        let at = self.pos;
        let Some(count) = self.array_count(flex, wire_min)? else {
            return Ok(None);
        };
        self.charge(at, count, size_of::<T>())?;
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(item(self)?);
        }
        Ok(Some(out))
    }

    /// An array of structs.
    pub(crate) fn structs<T>(
        &mut self,
        flex: bool,
        version: i16,
        wire_min: usize,
        item: fn(&mut Self, i16) -> Result<T>,
    ) -> Result<Vec<T>> {
        let at = self.pos;
        let value = self.nullable_structs(flex, true, version, wire_min, item)?;
        Self::not_null(at, value)
    }

    /// An array of structs that may be null.
    pub(crate) fn nullable_structs<T>(
        &mut self,
        flex: bool,
        nullable: bool,
        version: i16,
        wire_min: usize,
        item: fn(&mut Self, i16) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let at = self.pos;
        let Some(count) = self.array_count(flex, wire_min)? else {
            return Self::null_if(at, nullable, None);
        };
        self.charge(at, count, size_of::<T>())?;
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(item(self, version)?);
        }
        Ok(Some(out))
    }
}

/// Arrays of primitives: a concrete pair of functions per element type.
impl Reader {
    pub(crate) fn i8_array(&mut self, flex: bool) -> Result<Vec<i8>> {
        let at = self.pos;
        let value = self.items(flex, 1, Self::i8)?;
        Self::not_null(at, value)
    }

    pub(crate) fn i16_array(&mut self, flex: bool) -> Result<Vec<i16>> {
        let at = self.pos;
        let value = self.items(flex, 2, Self::i16)?;
        Self::not_null(at, value)
    }

    pub(crate) fn i32_array(&mut self, flex: bool) -> Result<Vec<i32>> {
        let at = self.pos;
        let value = self.items(flex, 4, Self::i32)?;
        Self::not_null(at, value)
    }

    pub(crate) fn nullable_i32_array(&mut self, flex: bool, nullable: bool) -> Result<Option<Vec<i32>>> {
        let at = self.pos;
        let value = self.items(flex, 4, Self::i32)?;
        Self::null_if(at, nullable, value)
    }

    pub(crate) fn i64_array(&mut self, flex: bool) -> Result<Vec<i64>> {
        let at = self.pos;
        let value = self.items(flex, 8, Self::i64)?;
        Self::not_null(at, value)
    }

    pub(crate) fn uuid_array(&mut self, flex: bool) -> Result<Vec<Uuid>> {
        let at = self.pos;
        let value = self.items(flex, 16, Self::uuid)?;
        Self::not_null(at, value)
    }

    pub(crate) fn nullable_uuid_array(&mut self, flex: bool, nullable: bool) -> Result<Option<Vec<Uuid>>> {
        let at = self.pos;
        let value = self.items(flex, 16, Self::uuid)?;
        Self::null_if(at, nullable, value)
    }

    fn strings(&mut self, flex: bool) -> Result<Option<Vec<Str>>> {
        if flex {
            self.items(true, 1, |r| r.string(true))
        } else {
            self.items(false, 2, |r| r.string(false))
        }
    }

    pub(crate) fn string_array(&mut self, flex: bool) -> Result<Vec<Str>> {
        let at = self.pos;
        let value = self.strings(flex)?;
        Self::not_null(at, value)
    }

    pub(crate) fn nullable_string_array(&mut self, flex: bool, nullable: bool) -> Result<Option<Vec<Str>>> {
        let at = self.pos;
        let value = self.strings(flex)?;
        Self::null_if(at, nullable, value)
    }
}
