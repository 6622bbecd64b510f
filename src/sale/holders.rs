//! Who holds places: each name once, as a small number.
//!
//! Owns the names, one after the other in one text, so that a hundred thousand of them are three allocations. Names are
//! never forgotten: a queue ends as a whole. Invariant: ids count from 0, in the order in which names came.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// The names.
#[derive(Debug, Default)]
pub(super) struct Holders {
    texts: String,
    /// Where the name of each id ends in `texts`.
    ends: Vec<u32>,
    ids: HashTable<u32>,
    hasher: FixedState,
}

impl Holders {
    pub(super) fn name(&self, id: u32) -> &str {
        name(&self.texts, &self.ends, id)
    }

    pub(super) fn find(&self, holder: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(holder);
        self.ids.find(hash, |id| self.name(*id) == holder).copied()
    }

    /// Adds a name that is not there yet. The caller bounds count and length, so that 32 bits count the bytes.
    pub(super) fn add(&mut self, holder: &str) -> u32 {
        let id = self.ends.len() as u32;
        self.texts.push_str(holder);
        self.ends.push(self.texts.len() as u32);
        let (texts, ends, hasher) = (&self.texts, &self.ends, &self.hasher);
        self.ids.insert_unique(hasher.hash_one(holder), id, |id| hasher.hash_one(name(texts, ends, *id)));
        id
    }
}

impl PartialEq for Holders {
    fn eq(&self, other: &Self) -> bool {
        (&self.texts, &self.ends) == (&other.texts, &other.ends)
    }
}

fn name<'a>(texts: &'a str, ends: &[u32], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &texts[start as usize..ends[id] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_under_its_own_id() {
        let mut holders = Holders::default();
        let names: Vec<String> = (0..5_000).map(|n| format!("u:{}", n * 7)).collect();
        let ids: Vec<u32> = names.iter().map(|name| holders.add(name)).collect();
        assert_eq!(ids, (0..5_000).collect::<Vec<_>>());
        assert!(
            names
                .iter()
                .zip(ids)
                .all(|(name, id)| holders.find(name) == Some(id) && holders.name(id) == name)
        );
        assert_eq!((holders.find("u:1"), holders.find("")), (None, None));
    }
}
