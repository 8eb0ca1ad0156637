//! Two small objects that recovery from the bucket alone needs: the order journal and the incarnation object.
//!
//! An agent that has nothing to upload writes the order it has folded as a journal of its own; the incarnation object says
//! which random id belongs to an incarnation number, so that a cloned cluster is recognised.
//!
//! Owns: both formats.

use bytes::Bytes;

use crate::container::{Container, ContainerBuilder, ContainerKind, Written};
use crate::id::{IncarnationId, IncarnationNumber, SessionId};
use crate::segment::OrderList;
use crate::wire::{Decoder, Encoder, FormatError};

const VERSION: u16 = 1;
const HEAD: &str = "head";
const ORDER: &str = "order";

/// The order of commits that an idle agent has folded since its last segment or journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderJournal {
    /// The incarnation in which it was written.
    pub incarnation: Incarnation,
    /// The session of its writer.
    pub session: SessionId,
    /// The order.
    pub order: OrderList,
}

/// A life of a cluster. On its own it is the content of the incarnation object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incarnation {
    /// Its number.
    pub number: IncarnationNumber,
    /// Its random id.
    pub id: IncarnationId,
}

impl Incarnation {
    fn put(self, out: &mut Encoder) {
        out.u32(self.number.0);
        out.u128(self.id.0);
    }

    fn take(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            number: IncarnationNumber(input.u32()?),
            id: IncarnationId(input.u128()?),
        })
    }

    /// Writes it as a container.
    #[must_use]
    pub fn encode(self) -> Written {
        let mut head = Encoder::new();
        self.put(&mut head);
        let mut out = ContainerBuilder::new(ContainerKind::Incarnation, VERSION);
        out.section(HEAD, head.finish());
        out.finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Whatever is wrong with the container or its section.
    pub fn decode(object: &Bytes) -> Result<Self, FormatError> {
        let container = Container::decode(ContainerKind::Incarnation, VERSION, object)?;
        let mut head = Decoder::new(container.section(HEAD)?);
        let decoded = Self::take(&mut head)?;
        head.finish()?;
        Ok(decoded)
    }
}

impl OrderJournal {
    /// Writes it as a container.
    ///
    /// # Panics
    /// When log indexes do not ascend.
    #[must_use]
    pub fn encode(&self) -> Written {
        let (mut head, mut order) = (Encoder::new(), Encoder::new());
        self.incarnation.put(&mut head);
        head.u64(self.session.0);
        self.order.encode(&mut order);
        let mut out = ContainerBuilder::new(ContainerKind::Order, VERSION);
        out.section(HEAD, head.finish());
        out.section(ORDER, order.finish());
        out.finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Whatever is wrong with the container or its sections.
    pub fn decode(object: &Bytes) -> Result<Self, FormatError> {
        let container = Container::decode(ContainerKind::Order, VERSION, object)?;
        let mut head = Decoder::new(container.section(HEAD)?);
        let (incarnation, session) = (Incarnation::take(&mut head)?, SessionId(head.u64()?));
        head.finish()?;
        let mut input = Decoder::new(container.section(ORDER)?);
        let order = OrderList::decode(&mut input)?;
        input.finish()?;
        Ok(Self {
            incarnation,
            session,
            order,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Both read back.

    use super::{Incarnation, OrderJournal};
    use crate::id::{CommitNumber, IncarnationId, IncarnationNumber, LogIndex, SegmentNumber, SessionId};
    use crate::segment::{OrderList, Ordered, SegmentSpan};
    use crate::wire::FormatError;

    #[test]
    fn both_objects_read_back_and_are_not_taken_for_each_other() {
        let incarnation = Incarnation {
            number: IncarnationNumber(3),
            id: IncarnationId(u128::MAX / 3),
        };
        let commit = |session, commit, index| Ordered {
            session: SessionId(session),
            commit: CommitNumber(commit),
            index: LogIndex(index),
            segments: SegmentSpan {
                first: SegmentNumber(session),
                count: 2,
            },
        };
        let order = OrderList {
            commits: vec![commit(9, 4, 100), commit(7, 90, 101), commit(9, 5, 105)],
        };
        let journal = OrderJournal {
            incarnation,
            session: SessionId(9),
            order,
        };
        assert_eq!(Incarnation::decode(&incarnation.encode().concat()), Ok(incarnation));
        assert_eq!(OrderJournal::decode(&journal.encode().concat()), Ok(journal));
        let mistaken = OrderJournal::decode(&incarnation.encode().concat());
        assert_eq!(mistaken, Err(FormatError::Magic { what: "order journal" }));
    }
}
