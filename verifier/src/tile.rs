//! The log as tiles (C2SP tlog-tiles): where its hashes and entries stand, and what is in them.
//!
//! A tile holds 256 hashes of one level of the tree, or fewer at the tree's right edge; a bundle
//! the entries of as many leaves. A full one never changes.

use std::fmt;
use std::str::FromStr;

use crate::hash::{RowHash, TreeSize};
use crate::merkle::{Subtree, TreeHash, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Levels of the tree in a tile: its hashes are of every eighth.
pub const TILE_HEIGHT: u8 = 8;
/// The highest level of a tile that the specification knows.
const MAX_LEVEL: u8 = 63;
/// The bytes of a leaf, as a bundle tells them before it.
const ENTRY_BYTES: u16 = 32;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// The hashes of complete subtrees of 256^level leaves each.
    Hashes(u8),
    /// The entries of the leaves themselves.
    Entries,
}

/// Which tile of a log; its `Display` is the path below `tile/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// What it holds.
    pub kind: TileKind,
    /// How many tiles of this kind stand to its left.
    pub index: u64,
    /// How many hashes or entries it has, from 1 to [`TILE_WIDTH`].
    pub width: u16,
}

/// The text is not the path of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tile's path is LEVEL/INDEX or entries/INDEX, with .p/WIDTH where it is not full")]
pub struct NotATile;

impl TileId {
    /// The tile of these hashes, as it is in a tree of this size; `None` where the tree has none of
    /// them.
    pub fn in_tree(kind: TileKind, index: u64, size: TreeSize) -> Option<Self> {
        let level = match kind {
            TileKind::Hashes(level) => u32::from(level),
            TileKind::Entries => 0,
        };
        let hashes = size.0.checked_shr(level * u32::from(TILE_HEIGHT)).unwrap_or(0);
        let before = index.checked_mul(u64::from(TILE_WIDTH))?;
        let width = hashes.checked_sub(before)?.min(u64::from(TILE_WIDTH));
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self { kind, index, width })
    }

    /// The tile of hashes that a subtree's hash is in, or can be computed from; as in a tree of
    /// this size, which has the subtree.
    pub fn of(subtree: Subtree, size: TreeSize) -> Option<Self> {
        let level = subtree.level / TILE_HEIGHT;
        let first = subtree.index.checked_shl(u32::from(subtree.level % TILE_HEIGHT))?;
        Self::in_tree(TileKind::Hashes(level), first / u64::from(TILE_WIDTH), size)
    }

    /// Whether it will never change.
    pub const fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The first of the leaves that it is about; `u64::MAX` where no tree has as many.
    pub fn first_leaf(&self) -> u64 {
        let below = match self.kind {
            TileKind::Hashes(level) => u32::from(level) + 1,
            TileKind::Entries => 1,
        };
        let shift = below * u32::from(TILE_HEIGHT);
        match self.index {
            0 => 0,
            index if shift <= index.leading_zeros() => index << shift,
            _ => u64::MAX,
        }
    }
}

/// The hash of a subtree, from the tile that [`TileId::of`] names; `None` where the tile does not
/// have all of it.
pub fn subtree_hash(subtree: Subtree, hashes: &[TreeHash]) -> Option<TreeHash> {
    let below = u32::from(subtree.level % TILE_HEIGHT);
    let first = (subtree.index << below) % u64::from(TILE_WIDTH);
    let first = usize::try_from(first).ok()?;
    let mut hashes = hashes.get(first..first + (1 << below))?.to_vec();
    while let [left, right, ..] = *hashes.as_slice() {
        if hashes.len() == 2 {
            return Some(node_hash(left, right));
        }
        hashes = hashes.chunks_exact(2).map(|pair| node_hash(pair[0], pair[1])).collect();
    }
    hashes.first().copied()
}

/// The bundle of these rows' entries: before each its length, as two bytes.
pub fn bundle(row_hashes: impl IntoIterator<Item = RowHash>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row_hash in row_hashes {
        bytes.extend_from_slice(&ENTRY_BYTES.to_be_bytes());
        bytes.extend_from_slice(&row_hash.0);
    }
    bytes
}

/// Three digits at a time, with an `x` before all but the last three.
fn write_index(index: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if index >= 1000 {
        write_above(index / 1000, f)?;
    }
    write!(f, "{:03}", index % 1000)
}

fn write_above(index: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if index >= 1000 {
        write_above(index / 1000, f)?;
    }
    write!(f, "x{:03}/", index % 1000)
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "{level}/")?,
            TileKind::Entries => f.write_str("entries/")?,
        }
        write_index(self.index, f)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for TileId {
    type Err = NotATile;

    /// Reads the one spelling that a tile has.
    fn from_str(path: &str) -> Result<Self, NotATile> {
        let (kind, rest) = path.split_once('/').ok_or(NotATile)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(level.parse().map_err(|_| NotATile)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(|_| NotATile)?),
            None => (rest, TILE_WIDTH),
        };
        let is_known = !matches!(kind, TileKind::Hashes(level) if level > MAX_LEVEL);
        let mut number: u64 = 0;
        for group in index.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let thousand = digits.parse::<u64>().ok().filter(|_| digits.len() == 3);
            let above = number.checked_mul(1000).ok_or(NotATile)?;
            number = above.checked_add(thousand.ok_or(NotATile)?).ok_or(NotATile)?;
        }
        let tile = Self { kind, index: number, width };
        // Whatever else could stand for the same is refused: signs, leading zeros, other groups.
        let is_one = is_known && (1..=TILE_WIDTH).contains(&width) && tile.to_string() == path;
        if is_one { Ok(tile) } else { Err(NotATile) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::Tree;

    #[test]
    fn a_tile_has_one_path() {
        let hashes = |level, index, width| TileId { kind: TileKind::Hashes(level), index, width };
        for (tile, path) in [
            (hashes(0, 0, 256), "0/000"),
            (hashes(3, 1_234_067, 256), "3/x001/x234/067"),
            (hashes(1, 999, 112), "1/999.p/112"),
            (hashes(0, 1000, 1), "0/x001/000.p/1"),
            (TileId { kind: TileKind::Entries, index: 273, width: 255 }, "entries/273.p/255"),
            (hashes(63, u64::MAX, 256), "63/x018/x446/x744/x073/x709/x551/615"),
        ] {
            assert_eq!(tile.to_string(), path);
            assert_eq!(path.parse(), Ok(tile));
        }
        for path in [
            "",
            "0",
            "0/",
            "0/0",
            "0/0000",
            "0/x000/001",
            "0/x001/x000",
            "0/001/000",
            "00/000",
            "+0/000",
            "64/000",
            "-1/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "0/000/",
            "x/000",
            "0/+01",
            "0/000.p/1.p/1",
            "data/000",
            "entries/x1/000",
            "0/x018/x446/x744/x073/x709/x551/616",
        ] {
            assert_eq!(path.parse::<TileId>(), Err(NotATile), "{path}");
        }
    }

    #[test]
    fn every_subtree_is_in_its_tile() {
        const LEAVES: u64 = 70_000;
        let mut kept = std::collections::HashMap::new();
        let mut tree = Tree::new();
        for leaf in 0..LEAVES {
            let mut row_hash = [0; 32];
            row_hash[..8].copy_from_slice(&leaf.to_be_bytes());
            tree.push_and_keep(RowHash(row_hash), |subtree, hash| {
                kept.insert(subtree, hash);
            });
        }
        let size = TreeSize(LEAVES);
        let hashes_in = |tile: TileId| -> Vec<_> {
            let TileKind::Hashes(level) = tile.kind else { unreachable!("a tile of hashes") };
            let first = tile.index * u64::from(TILE_WIDTH);
            let level = level * TILE_HEIGHT;
            (first..first + u64::from(tile.width))
                .map(|index| kept[&Subtree { level, index }])
                .collect()
        };
        for (subtree, hash) in
            kept.iter().filter(|(subtree, _)| subtree.index % 37 == 0 || subtree.level > 4)
        {
            let tile = TileId::of(*subtree, size).unwrap();
            assert_eq!(subtree_hash(*subtree, &hashes_in(tile)), Some(*hash), "{subtree:?}");
        }
        assert_eq!(TileId::in_tree(TileKind::Hashes(0), 273, size).unwrap().width, 112);
        assert_eq!(TileId::in_tree(TileKind::Hashes(0), 274, size), None);
        assert_eq!(TileId::in_tree(TileKind::Hashes(1), 1, size).unwrap().width, 17);
        assert_eq!(TileId::in_tree(TileKind::Hashes(2), 0, size).unwrap().width, 1);
        assert_eq!(TileId::in_tree(TileKind::Hashes(3), 0, size), None);
        assert_eq!(TileId::in_tree(TileKind::Hashes(8), u64::MAX, size), None);
    }
}
