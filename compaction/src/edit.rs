//! Changes to a manifest: which pages a round touches, and what stands in them afterwards.
//!
//! Owns: the pure part. Pages are read and written by `round`.
//!
//! Invariants: a partition has its slices of one level on one page; pages of a level do not overlap; a page that nothing
//! happens to is not written again.

use std::collections::{BTreeMap, BTreeSet};

use esker_segment::manifest::{ManifestPage, ManifestRoot, ManifestSlice, MergedObject, PageRef};
use esker_segment::name::ObjectName;

#[cfg(test)]
mod tests;

/// A slice that a round has made. The position of its object on the page is filled in when there is a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSlice {
    /// The slice.
    pub slice: ManifestSlice,
    /// The object it lies in.
    pub object: MergedObject,
}

/// What a round does to a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// New slices by level.
    pub add: BTreeMap<u8, Vec<NewSlice>>,
    /// Objects whose slices go.
    pub remove: BTreeSet<ObjectName>,
    /// Pages to be written again even if nothing is added to them: those with slices of `remove`, or with dead ones.
    pub touch: BTreeSet<ObjectName>,
}

impl Edit {
    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.touch.is_empty() && self.add.values().all(Vec::is_empty)
    }
}

/// Neighbouring pages of a level that become new ones together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The level.
    pub level: u8,
    /// The pages that are replaced, in order.
    pub replaced: Vec<PageRef>,
    /// What is added to them.
    pub add: Vec<NewSlice>,
}

/// Which pages stay, and which are replaced by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PagePlan {
    /// Pages that stay as they are.
    pub kept: Vec<PageRef>,
    /// Pages to be read and written anew.
    pub groups: Vec<Group>,
}

/// Decides which pages an edit touches. A touched page that is small takes its right neighbour along if that is small too.
#[must_use]
pub fn plan_pages(root: &ManifestRoot, edit: &Edit, page_slices_max: usize) -> PagePlan {
    let levels: BTreeSet<u8> = root
        .pages
        .iter()
        .map(|page| page.level)
        .chain(edit.add.keys().copied())
        .collect();
    let mut plan = PagePlan::default();
    for level in levels {
        let pages: Vec<&PageRef> = root.pages.iter().filter(|page| page.level == level).collect();
        let mut adds: BTreeMap<usize, Vec<NewSlice>> = BTreeMap::new();
        for new in edit.add.get(&level).into_iter().flatten() {
            // Between two pages it goes to the left one; before the first, to that.
            let page = pages
                .partition_point(|page| page.first <= new.slice.at)
                .saturating_sub(1);
            adds.entry(page).or_default().push(*new);
        }
        let mut group: Option<Group> = None;
        let small =
            |page: &PageRef| usize::try_from(page.facts.slices).is_ok_and(|slices| slices <= page_slices_max / 4);
        let mut last_small = false;
        for (nth, page) in pages.iter().enumerate() {
            let add = adds.remove(&nth);
            let touched = add.is_some() || edit.touch.contains(&page.name) || (last_small && small(page));
            if touched {
                let group = group.get_or_insert_with(|| Group {
                    level,
                    ..Group::default()
                });
                group.replaced.push(**page);
                group.add.extend(add.unwrap_or_default());
                last_small = small(page);
            } else {
                plan.groups.extend(group.take());
                plan.kept.push(**page);
                last_small = false;
            }
        }
        plan.groups.extend(group);
        // A level without pages: everything was put before the first.
        let add: Vec<NewSlice> = adds.into_values().flatten().collect();
        if !add.is_empty() {
            plan.groups.push(Group {
                level,
                replaced: Vec::new(),
                add,
            });
        }
    }
    plan
}

/// The pages that take the place of a group, given those that it replaces.
#[must_use]
pub fn rebuild<'a>(
    group: &Group,
    replaced: impl IntoIterator<Item = &'a ManifestPage>,
    keep: impl Fn(&ManifestSlice, &MergedObject) -> bool,
    page_slices_max: usize,
) -> Vec<ManifestPage> {
    let mut slices = group.add.clone();
    for page in replaced {
        let of_page = page.slices.iter().map(|slice| NewSlice {
            slice: *slice,
            object: object_of(page, slice),
        });
        slices.extend(of_page.filter(|old| keep(&old.slice, &old.object)));
    }
    slices.sort_by_key(|new| (new.slice.at, new.slice.start));
    let mut pages: Vec<PageBuilder> = Vec::new();
    for partition in slices.chunk_by(|one, next| one.slice.at == next.slice.at) {
        if pages
            .last()
            .is_none_or(|page| page.page.slices.len() + partition.len() > page_slices_max)
        {
            pages.push(PageBuilder::new(group.level));
        }
        let page = pages.last_mut().expect("one was just pushed");
        partition.iter().for_each(|new| page.push(new));
    }
    pages.into_iter().map(|builder| builder.page).collect()
}

/// The object that a slice of a page lies in.
///
/// # Panics
/// When the slice is not of that page.
#[must_use]
pub fn object_of(page: &ManifestPage, slice: &ManifestSlice) -> MergedObject {
    let nth = usize::try_from(slice.object).ok();
    *nth.and_then(|nth| page.objects.get(nth))
        .expect("a page that decodes names only objects that it has")
}

struct PageBuilder {
    page: ManifestPage,
    objects: BTreeMap<ObjectName, u32>,
}

impl PageBuilder {
    fn new(level: u8) -> Self {
        Self {
            page: ManifestPage {
                level,
                ..ManifestPage::default()
            },
            objects: BTreeMap::new(),
        }
    }

    fn push(&mut self, new: &NewSlice) {
        let objects = &mut self.page.objects;
        let object = *self.objects.entry(new.object.name).or_insert_with(|| {
            objects.push(new.object);
            u32::try_from(objects.len() - 1).expect("a page has few objects")
        });
        self.page.slices.push(ManifestSlice { object, ..new.slice });
    }
}

/// The root of a manifest in which these pages stand.
#[must_use]
pub fn manifest_root(merged_through: esker_segment::id::LogIndex, mut pages: Vec<PageRef>) -> ManifestRoot {
    pages.sort_by_key(|page| (page.level, page.first));
    ManifestRoot { merged_through, pages }
}
