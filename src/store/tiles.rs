//! Hashes of the log's tree, from the tiles that are stored, and at the right edge from `ledger_log` and
//! the roots of tiles.

use std::collections::{BTreeSet, HashMap};

use ledger_verifier::merkle::{ProofPlan, Subtree, TreeHash, leaf_hash};
use ledger_verifier::tile::{TILE_WIDTH, TileId, TileKind, subtree_hash};
use ledger_verifier::{LeafIndex, RowHash, TreeSize};
use sqlx::{PgConnection, Row};

use super::{InStatement, StoreError};
use crate::integrity::tree::{FullTile, LogTree, leaf_data, root_of};

/// Tiles that one statement stores: about 2 MB.
const TILES_AT_ONCE: usize = 256;

fn as_bytes(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whoever has the service's login may have put something there before: see [`first_changed_tile`].
pub(super) async fn insert_tiles(
    connection: &mut PgConnection,
    incarnation: i32,
    tiles: &[FullTile],
) -> Result<(), StoreError> {
    for tiles in tiles.chunks(TILES_AT_ONCE) {
        sqlx::query(
            "/* insert_tiles */ INSERT INTO public.log_tiles (incarnation, level, index, hashes, root)
             SELECT $1, t.level, t.index, t.hashes, t.root
             FROM unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[])
                 AS t (level, index, hashes, root)
             ON CONFLICT DO NOTHING",
        )
        .bind(incarnation)
        .bind(tiles.iter().map(|tile| i16::from(tile.level)).collect::<Vec<_>>())
        .bind(tiles.iter().map(|tile| number(tile.index)).collect::<Vec<_>>())
        .bind(tiles.iter().map(|tile| as_bytes(&tile.hashes)).collect::<Vec<_>>())
        .bind(tiles.iter().map(|tile| tile.root.0.to_vec()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .in_statement("insert_tiles")?;
    }
    Ok(())
}

/// The hashes of an incarnation's tree, as it was at one size. What they are is not believed: roots and
/// proofs that are made of them are compared with what was signed.
#[derive(Clone, Copy, Debug)]
pub struct StoredTree {
    /// Whose tree it is.
    pub incarnation: i32,
    /// Its leaves.
    pub size: TreeSize,
}

impl StoredTree {
    /// As it was at a smaller size.
    #[must_use]
    pub fn at(self, size: TreeSize) -> Self {
        Self { size, ..self }
    }

    /// The hashes of tiles that are in this tree. Where one is not there whole, as many as are.
    pub async fn tiles(
        self,
        connection: &mut PgConnection,
        tiles: &BTreeSet<TileId>,
    ) -> Result<HashMap<TileId, Vec<TreeHash>>, StoreError> {
        let (full, partial): (Vec<_>, Vec<_>) = tiles.iter().copied().partition(TileId::is_full);
        let mut found = self.full_tiles(connection, &full).await?;
        for tile in partial {
            let hashes = match tile.kind {
                TileKind::Entries | TileKind::Hashes(0) => {
                    leaves(connection, tile).await?.into_iter().map(leaf_hash).collect()
                }
                TileKind::Hashes(level) => self.roots(connection, level - 1, tile).await?,
            };
            found.insert(tile, hashes);
        }
        Ok(found)
    }

    async fn full_tiles(
        self,
        connection: &mut PgConnection,
        tiles: &[TileId],
    ) -> Result<HashMap<TileId, Vec<TreeHash>>, StoreError> {
        const STATEMENT: &str = "full_tiles";
        if tiles.is_empty() {
            return Ok(HashMap::new());
        }
        let level = |tile: &TileId| match tile.kind {
            TileKind::Hashes(level) => i16::from(level),
            TileKind::Entries => 0,
        };
        let rows = sqlx::query(
            "/* full_tiles */ SELECT w.place, t.hashes
             FROM unnest($2::smallint[], $3::bigint[]) WITH ORDINALITY
                 AS w (level, index, place)
             CROSS JOIN LATERAL (
                 SELECT t.hashes FROM public.log_tiles AS t
                 WHERE t.incarnation = $1 AND t.level = w.level AND t.index = w.index LIMIT 1) AS t",
        )
        .bind(self.incarnation)
        .bind(tiles.iter().map(level).collect::<Vec<_>>())
        .bind(tiles.iter().map(|tile| number(tile.index)).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .in_statement(STATEMENT)?;
        let mut found = HashMap::new();
        for row in rows {
            let place: i64 = row.try_get("place").in_statement(STATEMENT)?;
            let hashes: Vec<u8> = row.try_get("hashes").in_statement(STATEMENT)?;
            let tile = usize::try_from(place - 1).ok().and_then(|place| tiles.get(place));
            found.extend(tile.map(|tile| (*tile, hashes_of(&hashes))));
        }
        Ok(found)
    }

    /// The roots of the tiles below a tile.
    async fn roots(
        self,
        connection: &mut PgConnection,
        level_below: u8,
        tile: TileId,
    ) -> Result<Vec<TreeHash>, StoreError> {
        let first = tile.index * u64::from(TILE_WIDTH);
        let roots: Vec<Vec<u8>> = sqlx::query_scalar(
            "/* tile_roots */ SELECT t.root FROM public.log_tiles AS t
             WHERE t.incarnation = $1 AND t.level = $2 AND t.index >= $3 AND t.index < $4
             ORDER BY t.index",
        )
        .bind(self.incarnation)
        .bind(i16::from(level_below))
        .bind(number(first))
        .bind(number(first + u64::from(tile.width)))
        .fetch_all(connection)
        .await
        .in_statement("tile_roots")?;
        Ok(roots.iter().flat_map(|root| hashes_of(root)).collect())
    }

    /// The hashes of these complete subtrees, as far as they are there.
    pub async fn hashes(
        self,
        connection: &mut PgConnection,
        subtrees: impl IntoIterator<Item = Subtree>,
    ) -> Result<HashMap<Subtree, TreeHash>, StoreError> {
        let wanted: Vec<(Subtree, TileId)> = subtrees
            .into_iter()
            .filter_map(|subtree| Some((subtree, TileId::of(subtree, self.size)?)))
            .collect();
        let tiles = self.tiles(connection, &wanted.iter().map(|(_, tile)| *tile).collect()).await?;
        let hash = |(subtree, tile)| Some((subtree, subtree_hash(subtree, tiles.get(&tile)?)?));
        Ok(wanted.into_iter().filter_map(hash).collect())
    }

    /// The tiles at the right edge, by level: what a tree goes on from.
    pub async fn edges(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Vec<TreeHash>>, StoreError> {
        let mut edges = Vec::new();
        for level in 0.. {
            let hashes = self.size.0.checked_shr(8 * u32::from(level)).unwrap_or(0);
            if hashes == 0 {
                break;
            }
            let index = hashes / u64::from(TILE_WIDTH);
            let edge = TileId::in_tree(TileKind::Hashes(level), index, self.size);
            let tiles = self.tiles(connection, &edge.into_iter().collect()).await?;
            edges.push(tiles.into_values().next().unwrap_or_default());
        }
        Ok(edges)
    }

    /// The tree, ready to go on.
    pub async fn restore(self, connection: &mut PgConnection) -> Result<LogTree, StoreError> {
        let edges = self.edges(connection).await?;
        LogTree::restore(self.size, edges).ok_or_else(|| StoreError::Contradiction {
            statement: "restore_tree",
            what: format!("the tiles do not make a tree of {} leaves", self.size),
        })
    }

    /// A proof, as far as the hashes are there.
    pub async fn prove(
        self,
        connection: &mut PgConnection,
        plan: &ProofPlan,
    ) -> Result<Vec<TreeHash>, StoreError> {
        let hashes = self.hashes(connection, plan.subtrees()).await?;
        plan.prove(|subtree| {
            hashes.get(&subtree).copied().ok_or_else(|| StoreError::Contradiction {
                statement: "prove",
                what: format!("the tree has no hash of {subtree:?}"),
            })
        })
    }
}

/// The hashes of a tile, and the one over them, as they are stored.
type StoredTile = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The first of these tiles, given without their hashes, that is stored otherwise or not at all.
pub async fn first_changed_tile(
    connection: &mut PgConnection,
    incarnation: i32,
    tiles: &[FullTile],
) -> Result<Option<(u8, u64)>, StoreError> {
    const STATEMENT: &str = "stored_tiles";
    for tiles in tiles.chunks(TILES_AT_ONCE) {
        let rows: Vec<StoredTile> = sqlx::query_as(
            "/* stored_tiles */ SELECT t.hashes, t.root
             FROM unnest($2::smallint[], $3::bigint[]) WITH ORDINALITY
                 AS w (level, index, place)
             LEFT JOIN LATERAL (
                 SELECT t.hashes, t.root FROM public.log_tiles AS t
                 WHERE t.incarnation = $1 AND t.level = w.level AND t.index = w.index LIMIT 1)
                 AS t ON true
             ORDER BY w.place",
        )
        .bind(incarnation)
        .bind(tiles.iter().map(|tile| i16::from(tile.level)).collect::<Vec<_>>())
        .bind(tiles.iter().map(|tile| number(tile.index)).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await
        .in_statement(STATEMENT)?;
        for (tile, (hashes, root)) in tiles.iter().zip(rows) {
            let hashes = hashes_of(&hashes.unwrap_or_default());
            let is_whole = hashes.len() == usize::from(TILE_WIDTH);
            let is_same = is_whole
                && root_of(&hashes) == tile.root
                && root.is_some_and(|root| root == tile.root.0);
            if !is_same {
                return Ok(Some((tile.level, tile.index)));
            }
        }
    }
    Ok(None)
}

fn hashes_of(bytes: &[u8]) -> Vec<TreeHash> {
    bytes.as_chunks::<32>().0.iter().map(|hash| TreeHash(*hash)).collect()
}

/// What the leaves are that a tile of the lowest level, or of entries, is about. One that is missing is
/// what the tree has in its place.
pub async fn leaves(
    connection: &mut PgConnection,
    tile: TileId,
) -> Result<Vec<RowHash>, StoreError> {
    const STATEMENT: &str = "leaves";
    let first = tile.first_leaf();
    let rows = sqlx::query(
        "/* leaves */ SELECT l.leaf_index, l.row_hash::text FROM public.ledger_log AS l
         WHERE l.leaf_index >= $1 AND l.leaf_index < $2 ORDER BY l.leaf_index",
    )
    .bind(number(first))
    .bind(number(first.saturating_add(tile.width.into())))
    .fetch_all(connection)
    .await
    .in_statement(STATEMENT)?;
    let mut leaves = vec![leaf_data(b""); tile.width.into()];
    for row in rows {
        let leaf: i64 = row.try_get("leaf_index").in_statement(STATEMENT)?;
        let row_hash: String = row.try_get("row_hash").in_statement(STATEMENT)?;
        let place = usize::try_from(leaf - number(first)).ok();
        if let Some(place) = place.and_then(|place| leaves.get_mut(place)) {
            *place = leaf_data(row_hash.as_bytes());
        }
    }
    Ok(leaves)
}

/// Where the log has a row, and with which hash; `None` where it has not.
pub async fn leaf_of_row(
    connection: &mut PgConnection,
    chain: &str,
    id: i64,
) -> Result<Option<(LeafIndex, RowHash)>, StoreError> {
    let entry: Option<(i64, String)> = sqlx::query_as(
        "/* leaf_of_row */ SELECT l.leaf_index, l.row_hash::text FROM public.ledger_log AS l
         WHERE l.chain = $1 AND l.id = $2",
    )
    .bind(chain)
    .bind(id)
    .fetch_optional(connection)
    .await
    .in_statement("leaf_of_row")?;
    Ok(entry.and_then(|(leaf, row_hash)| {
        Some((LeafIndex(u64::try_from(leaf).ok()?), leaf_data(row_hash.as_bytes())))
    }))
}
