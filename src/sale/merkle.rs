//! A Merkle tree and its inclusion proofs, hashed as in RFC 6962 §2.1: SHA-256, leaves and nodes told apart by their first
//! byte, so that no node can be passed off as a leaf.
//!
//! Owns the hashes of all levels. Building is linear: every node is hashed once; a proof reads one hash a level.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Hashes in a proof of a tree of at most 2^32 leaves.
pub const PROOF_HASHES_MAX: usize = 32;

/// A tree over a fixed list of leaves.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Leaves first, root last; each level half as long as the one below, rounded up. Never empty; of no leaves: one level
    /// of none.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Builds the tree over the hashes of its leaves ([`leaf`]).
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            // One that has no neighbour moves up as it is: what splitting at the largest power of two comes to.
            let above =
                below.chunks(2).map(|pair| pair.get(1).map_or(pair[0], |right| node(&pair[0], right)));
            let above = above.collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The Merkle tree hash; of no leaves, the hash of nothing.
    pub fn root(&self) -> Hash {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| sha256(&[]))
    }

    /// Leaves.
    pub fn size(&self) -> usize {
        self.levels[0].len()
    }

    /// The hashes that lead from leaf `index` to the root, lowest first; `None`: there is no such leaf.
    pub fn proof(&self, index: usize) -> Option<Vec<Hash>> {
        if index >= self.size() {
            return None;
        }
        let neighbours = self.levels.iter().enumerate();
        Some(neighbours.filter_map(|(level, hashes)| hashes.get((index >> level) ^ 1)).copied().collect())
    }
}

/// The root that a proof leads to from leaf `index` of `size` (RFC 9162 §2.1.3.2); `None`: the proof is too short or too
/// long for that place, or there is no such place. Work is bounded by the length of the proof.
pub fn root_of(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut position, mut last) = (index, size - 1);
    let mut hash = leaf;
    for neighbour in proof {
        if last == 0 {
            return None;
        }
        if position & 1 == 1 || position == last {
            hash = node(neighbour, &hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, neighbour);
        }
        position >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Of one leaf, whose data are these parts in a row.
pub fn leaf(parts: &[&[u8]]) -> Hash {
    hashed(0, parts)
}

/// SHA-256 of the bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    bytes_of(digest(&SHA256, bytes).as_ref())
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hashed(1, &[left, right])
}

fn hashed(prefix: u8, parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[prefix]);
    parts.iter().for_each(|part| context.update(part));
    bytes_of(context.finish().as_ref())
}

/// Of a digest of 32 bytes.
pub(super) fn bytes_of(digest: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sale::fair::hex;

    /// The leaves that implementations of RFC 6962 share as test data.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    /// Roots of the first 0 to 8 of them.
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn tree(size: u64) -> Tree {
        Tree::new((0..size).map(|number| leaf(&[&number.to_be_bytes()])).collect())
    }

    #[test]
    fn roots_are_those_that_others_compute() {
        for (size, root) in ROOTS.iter().enumerate() {
            let tree = Tree::new(LEAVES[..size].iter().map(|data| leaf(&[data])).collect());
            assert_eq!(hex(&tree.root()), *root, "{size} leaves");
        }
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proven() {
        for size in 1..=70 {
            let tree = tree(size);
            for index in 0..size {
                let proof = tree.proof(index as usize).unwrap();
                let start = leaf(&[&index.to_be_bytes()]);
                assert_eq!(root_of(start, index, size, &proof), Some(tree.root()), "{index} of {size}");
                // In another place, the same leaf and proof lead elsewhere or nowhere.
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(
                        root_of(start, other, size, &proof),
                        Some(tree.root()),
                        "{index}, {other} of {size}"
                    );
                }
            }
            assert_eq!(tree.proof(size as usize), None);
        }
    }

    #[test]
    fn a_proof_has_exactly_the_hashes_that_its_place_needs() {
        let tree = tree(70);
        let mut proof = tree.proof(9).unwrap();
        let start = leaf(&[&9_u64.to_be_bytes()]);
        let last = proof.pop().unwrap();
        assert_eq!(root_of(start, 9, 70, &proof), None);
        proof.extend([last, last]);
        assert_eq!(root_of(start, 9, 70, &proof), None);
        assert_eq!(root_of(start, 70, 70, &[]), None);
        assert_eq!(root_of(start, 0, 0, &[]), None);
        assert_eq!(root_of(start, 0, 1, &vec![last; 100]), None);
    }

    #[test]
    fn a_node_is_no_leaf() {
        let tree = tree(2);
        let data = [leaf(&[&0_u64.to_be_bytes()]), leaf(&[&1_u64.to_be_bytes()])].concat();
        assert_ne!(leaf(&[&data]), tree.root());
    }
}
