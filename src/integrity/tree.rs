//! The log's tree as it grows: what its right edge consists of, and the tiles that get full.

use ledger_verifier::merkle::{Subtree, Tree, TreeHash, TreeHead, node_hash};
use ledger_verifier::tile::{TILE_HEIGHT, TILE_WIDTH, subtree_hash};
use ledger_verifier::{RowHash, TreeSize};

/// What a leaf is that is missing from the log, or has no hash, once that is acknowledged.
const NO_HASH: RowHash = RowHash([0; 32]);
/// A leaf that stands farther behind the one before was forged: no tree is made of what is between.
const MAX_GAP: u64 = 1 << 20;

/// A tile that will never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile {
    /// Its hashes are of subtrees of 256^level leaves each.
    pub level: u8,
    /// How many tiles of this level stand to its left.
    pub index: u64,
    /// All 256 of them.
    pub hashes: Vec<TreeHash>,
    /// The hash over all of them.
    pub root: TreeHash,
}

/// A tree with the tiles at its right edge, in a few kilobytes whatever its size.
#[derive(Clone, Debug, Default)]
pub struct LogTree {
    tree: Tree,
    /// By level, the hashes of the tile that is not full.
    edges: Vec<Vec<TreeHash>>,
    /// Whether a leaf was met that no tree has.
    is_torn: bool,
}

impl LogTree {
    /// Goes on with a tree of this size, whose tiles at the right edge have these hashes, by level.
    /// `None` where a tile has fewer than it must. The result is as true as they are: compare its root.
    pub fn restore(size: TreeSize, edges: Vec<Vec<TreeHash>>) -> Option<Self> {
        let tree = Tree::restore(size, |subtree: Subtree| {
            let edge = edges.get(usize::from(subtree.level / TILE_HEIGHT));
            edge.and_then(|hashes| subtree_hash(subtree, hashes)).ok_or(())
        });
        Some(Self { tree: tree.ok()?, edges, is_torn: false })
    }

    /// Appends a leaf, and hands over the tiles that it fills.
    pub fn push(&mut self, row_hash: RowHash, full: &mut Vec<FullTile>) {
        let edges = &mut self.edges;
        self.tree.push_and_keep(row_hash, |subtree, hash| {
            if !subtree.level.is_multiple_of(TILE_HEIGHT) {
                return;
            }
            let level = usize::from(subtree.level / TILE_HEIGHT);
            if edges.len() == level {
                edges.push(Vec::with_capacity(TILE_WIDTH.into()));
            }
            let edge = &mut edges[level];
            edge.push(hash);
            if edge.len() == usize::from(TILE_WIDTH) {
                let hashes = std::mem::take(edge);
                full.push(FullTile {
                    level: subtree.level / TILE_HEIGHT,
                    index: subtree.index / u64::from(TILE_WIDTH),
                    root: root_of(&hashes),
                    hashes,
                });
            }
        });
    }

    /// Appends what the log holds at this place: leaves that are missing before it, as well as one
    /// without a hash, are committed to as 32 zero bytes (FORMAT.md section 3).
    pub fn enter(&mut self, leaf_index: i64, row_hash: &[u8], full: &mut Vec<FullTile>) {
        let size = self.tree.size().0;
        let leaf = u64::try_from(leaf_index).unwrap_or(0);
        if leaf < size || self.is_torn {
            return;
        }
        if leaf - size > MAX_GAP {
            self.is_torn = true;
            return;
        }
        for _ in size..leaf {
            self.push(NO_HASH, full);
        }
        self.push(leaf_data(row_hash), full);
    }

    /// How many leaves were appended.
    pub const fn size(&self) -> TreeSize {
        self.tree.size()
    }

    /// Size and root; of the leaves before the first that no tree has.
    pub fn head(&self) -> TreeHead {
        self.tree.head()
    }

    /// Whether the log holds a leaf that no tree has: then it cannot be signed.
    pub const fn is_torn(&self) -> bool {
        self.is_torn
    }
}

/// The hash over the 256 of a full tile.
pub fn root_of(hashes: &[TreeHash]) -> TreeHash {
    let mut hashes = hashes.to_vec();
    while hashes.len() > 1 {
        hashes = hashes.chunks_exact(2).map(|pair| node_hash(pair[0], pair[1])).collect();
    }
    hashes[0]
}

/// What a leaf's hash is made of, as the log holds it.
pub fn leaf_data(row_hash: &[u8]) -> RowHash {
    RowHash::from_hex(row_hash).unwrap_or(NO_HASH)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ledger_verifier::tile::{TileId, TileKind};

    use super::*;

    fn row_hash(leaf: u64) -> RowHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&leaf.to_be_bytes());
        RowHash(hash)
    }

    #[test]
    fn a_tree_goes_on_from_its_tiles_at_any_size() {
        const LEAVES: u64 = 66_200;
        const MORE: u64 = 600;
        let mut whole = LogTree::default();
        let mut all = Vec::new();
        let (mut heads, mut restored) = (Vec::new(), Vec::new());
        for leaf in 0..LEAVES {
            let size = whole.head().size;
            heads.push((whole.head(), all.len()));
            if leaf < 600 && leaf % 7 == 0 || leaf % 8191 < 2 || leaf > LEAVES - 20 {
                let edges = whole.edges.clone();
                let again = LogTree::restore(size, edges).expect("as many hashes as there must be");
                assert_eq!(again.head(), whole.head());
                restored.push(again);
            }
            whole.push(row_hash(leaf), &mut all);
        }
        heads.push((whole.head(), all.len()));
        for mut tree in restored {
            let from = tree.head().size.0;
            let to = (from + MORE).min(LEAVES);
            let mut full = Vec::new();
            (from..to).for_each(|leaf| tree.push(row_hash(leaf), &mut full));
            let (_, first) = heads[usize::try_from(from).unwrap()];
            let (head, tiles) = heads[usize::try_from(to).unwrap()];
            assert_eq!(tree.head(), head);
            assert_eq!(all[first..tiles], full);
        }
        let by_place: HashMap<_, _> =
            all.iter().map(|tile| ((tile.level, tile.index), tile)).collect();
        assert_eq!(by_place.len(), all.len());
        // A tile's root is a hash of the tile above.
        for tile in &all {
            let above = TileKind::Hashes(tile.level + 1);
            let place = TileId::in_tree(above, tile.index / 256, TreeSize(LEAVES)).unwrap();
            let hashes = by_place.get(&(tile.level + 1, place.index)).map_or_else(
                || whole.edges[usize::from(tile.level) + 1].clone(),
                |tile| tile.hashes.clone(),
            );
            assert_eq!(hashes[usize::try_from(tile.index % 256).unwrap()], tile.root);
        }
        assert!(LogTree::restore(TreeSize(700), vec![vec![]; 2]).is_none());
    }

    #[test]
    fn what_is_missing_is_zeros_and_what_is_absurd_ends_the_tree() {
        let mut full = Vec::new();
        let (mut tree, mut expected) = (LogTree::default(), LogTree::default());
        tree.enter(0, &row_hash(0).to_hex(), &mut full);
        tree.enter(0, &row_hash(9).to_hex(), &mut full);
        tree.enter(3, b"no hash", &mut full);
        expected.push(row_hash(0), &mut full);
        (0..3).for_each(|_| expected.push(RowHash([0; 32]), &mut full));
        assert_eq!(tree.head(), expected.head());
        tree.enter(9_007_199_254_740_991, &row_hash(1).to_hex(), &mut full);
        assert!(tree.is_torn());
        tree.enter(4, &row_hash(4).to_hex(), &mut full);
        assert_eq!(tree.head(), expected.head());
    }
}
