//! Values by small number.
//!
//! Owns a table in pages, so that growing moves nothing and wastes less than a page. Pages are kept once made:
//! the numbers are slots and come back.

const PAGE_LEN: usize = 256;

/// A sparse table whose keys are handed out densely from 0.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Box<[Option<T>]>>,
    len: usize,
}

impl<T> Pages<T> {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }

    /// Values present.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Places for values, taken or not.
    pub(super) fn slots(&self) -> usize {
        self.pages.len() * PAGE_LEN
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.pages.get(index / PAGE_LEN)?[index % PAGE_LEN].as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        self.pages.get_mut(index / PAGE_LEN)?[index % PAGE_LEN].as_mut()
    }

    /// Puts a value in its place; `index` is at most one page beyond the largest so far, or the pages between are
    /// made too. Returns what was there.
    pub(super) fn insert(&mut self, index: u32, value: T) -> Option<T> {
        let index = index as usize;
        while self.pages.len() <= index / PAGE_LEN {
            self.pages.push((0..PAGE_LEN).map(|_| None).collect());
        }
        let old = self.pages[index / PAGE_LEN][index % PAGE_LEN].replace(value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let index = index as usize;
        let value = self.pages.get_mut(index / PAGE_LEN)?[index % PAGE_LEN].take()?;
        self.len -= 1;
        Some(value)
    }

    #[cfg(any(test, debug_assertions))]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_under_its_number_until_removed() {
        let mut table = Pages::new();
        for index in [0, 255, 256, 1_000] {
            assert_eq!(table.insert(index, index * 2), None);
        }
        assert_eq!(table.len(), 4);
        assert_eq!(table.get(256), Some(&512));
        assert_eq!(table.insert(256, 7), Some(512));
        assert_eq!(table.remove(256), Some(7));
        assert_eq!((table.get(256), table.get(999_999)), (None, None));
        assert_eq!(table.remove(256), None);
        assert_eq!(table.iter().copied().collect::<Vec<_>>(), [0, 510, 2_000]);
        assert_eq!(table.len(), 3);
    }
}
