//! Tiles against `tlog_tiles`: their paths, which there are, what stands in them, and the root that
//! they lead to. The crate is of Go's layout, which has the height in its paths and calls entries
//! `data`.

use std::collections::HashMap;

use ledger_verifier::RowHash;
use ledger_verifier::hash::TreeSize;
use ledger_verifier::merkle::{Subtree, Tree, TreeHash};
use ledger_verifier::tile::{TILE_HEIGHT, TILE_WIDTH, TileId, TileKind, bundle, subtree_hash};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tlog_tiles::tile::{Tile, TileHashReader, TileReader};
use tlog_tiles::tlog::{Error, Hash, HashReader, stored_hash_index, tree_hash};

fn theirs(tile: TileId) -> Tile {
    let (level, is_data) = match tile.kind {
        TileKind::Hashes(level) => (level, false),
        TileKind::Entries => (0, true),
    };
    Tile::new(TILE_HEIGHT, level, tile.index, tile.width.into(), is_data)
}

fn ours(tile: &Tile) -> TileId {
    tile.path().strip_prefix("tile/8/").unwrap().replace("data/", "entries/").parse().unwrap()
}

/// A log that serves its tiles.
struct Log {
    tree: Tree,
    kept: HashMap<Subtree, TreeHash>,
}

impl Log {
    fn new(leaves: u64) -> Self {
        let mut log = Self { tree: Tree::new(), kept: HashMap::new() };
        for leaf in 0..leaves {
            let row_hash = RowHash(Sha256::digest(leaf.to_be_bytes()).into());
            log.tree.push_and_keep(row_hash, |subtree, hash| _ = log.kept.insert(subtree, hash));
        }
        log
    }

    fn hashes(&self, tile: TileId) -> Vec<TreeHash> {
        let TileKind::Hashes(level) = tile.kind else { panic!("a tile of hashes") };
        let first = tile.index * u64::from(TILE_WIDTH);
        let level = level * TILE_HEIGHT;
        let indexes = first..first + u64::from(tile.width);
        indexes.map(|index| self.kept[&Subtree { level, index }]).collect()
    }
}

impl TileReader for Log {
    fn height(&self) -> u8 {
        TILE_HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        Ok(tiles
            .iter()
            .map(|tile| self.hashes(ours(tile)).iter().flat_map(|hash| hash.0).collect())
            .collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[test]
fn the_oracle_reads_the_log_from_its_tiles() {
    for leaves in [1, 2, 255, 256, 257, 600, 65_535, 65_536, 65_537, 66_000] {
        let log = Log::new(leaves);
        let size = log.tree.size();
        for tile in Tile::new_tiles(TILE_HEIGHT, 0, leaves) {
            let id = ours(&tile);
            assert_eq!(TileId::in_tree(id.kind, id.index, size), Some(id));
            assert_eq!(theirs(id), tile);
        }
        // It checks every tile against the root before it believes one.
        let root = Hash(log.tree.root().0);
        let reader = TileHashReader::new(leaves, root, &log);
        assert_eq!(tree_hash(leaves, &reader).unwrap().0, root.0);
        for (subtree, hash) in log.kept.iter().filter(|(subtree, _)| subtree.index % 509 == 0) {
            let index = stored_hash_index(subtree.level, subtree.index);
            assert_eq!(reader.read_hashes(&[index]).unwrap()[0].0, hash.0);
            let tile = TileId::of(*subtree, size).unwrap();
            let narrowest = Tile::from_index(TILE_HEIGHT, index);
            assert_eq!((tile.index, tile.kind), (ours(&narrowest).index, ours(&narrowest).kind));
            assert_eq!(subtree_hash(*subtree, &log.hashes(tile)), Some(*hash));
        }
    }
}

#[test]
fn a_tile_that_no_tree_has_begins_nowhere() {
    for (level, index) in [(0, 1 << 56), (6, 256), (7, 1), (63, 1), (63, u64::MAX)] {
        let tile = TileId { kind: TileKind::Hashes(level), index, width: 1 };
        assert_eq!(tile.first_leaf(), u64::MAX);
        assert_eq!(TileId { index: 0, ..tile }.first_leaf(), 0);
    }
}

/// C2SP tlog-tiles, "Log entries": each entry behind its length in two bytes, big-endian.
#[test]
fn a_bundle_of_entries_is_their_hashes() {
    let entries = [RowHash([1; 32]), RowHash([2; 32])];
    let expected = [&[0, 32][..], &[1; 32], &[0, 32], &[2; 32]].concat();
    assert_eq!(bundle(entries), expected);
    assert!(bundle([]).is_empty());
}

proptest! {
    #[test]
    fn paths_are_those_of_the_oracle(
        level in 0..=63_u8, index: u64, digits in 0..20_u32, width in 1..=TILE_WIDTH,
    ) {
        let index = index % 10_u64.checked_pow(digits).unwrap_or(u64::MAX);
        for kind in [TileKind::Hashes(level), TileKind::Entries] {
            let tile = TileId { kind, index, width };
            let path = theirs(tile).path().replace("data/", "entries/");
            prop_assert_eq!(path, format!("tile/8/{tile}"));
            prop_assert_eq!(ours(&theirs(tile)), tile);
        }
    }

    /// Both read a path, or both refuse it.
    #[test]
    fn the_oracle_reads_the_same_paths(
        path in "(([0-9]{1,2}|entries|x)/)?(x?[0-9]{2,3}/){0,3}[0-9]{3}(\\.p/[0-9]{0,3})?",
    ) {
        let read = path.parse::<TileId>().ok();
        let their_path = format!("tile/8/{}", path.replace("entries/", "data/"));
        // A level of 64 and more, and no width, it does not refuse but panics at.
        let level = their_path.split('/').nth(2).and_then(|level| level.parse::<u8>().ok());
        let width = path.split_once(".p/").and_then(|(_, width)| width.parse::<u16>().ok());
        let panics = width == Some(0) || level.is_some_and(|level| level > 63);
        let theirs = if panics { None } else { Tile::from_path(&their_path).ok() };
        prop_assert_eq!(read.map(|tile| tile.to_string()), theirs.map(|_| path));
    }

    /// No tile outside the tree, and none wider than it.
    #[test]
    fn tiles_end_where_the_tree_does(
        level in 0..=9_u8, index in 0..300_u64, size: u64, bits in 0..64_u32,
    ) {
        let size = size >> bits;
        let found = TileId::in_tree(TileKind::Hashes(level), index, TreeSize(size));
        let hashes = u128::from(size) >> (8 * u32::from(level)).min(127);
        let before = u128::from(index) * 256;
        let width = hashes.saturating_sub(before).min(256);
        prop_assert_eq!(found.map_or(0, |tile| u128::from(tile.width)), width);
        if let Some(tile) = found {
            let first = before << (8 * u32::from(level));
            prop_assert_eq!(u128::from(tile.first_leaf()), first);
        }
    }
}
