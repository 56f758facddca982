//! The RFC 9162 Merkle tree over the log (FORMAT.md section 3): leaf hashes, roots, proofs.
//!
//! A leaf's data is the 32 raw bytes of a [`RowHash`]. [`Tree`] computes roots from a stream of
//! leaves in logarithmic space. Proofs are made in two steps, so that the hashes may come from
//! memory, a database or stored tiles: a [`ProofPlan`] says which complete subtrees a proof
//! consists of, and [`ProofPlan::prove`] asks for their hashes.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

use crate::hash::{LeafIndex, RowHash, TreeSize};

/// Hash of a leaf, a node or a whole tree (RFC 9162 section 2.1.1).
///
/// Its text is standard base64 with padding (RFC 4648 section 4), as in checkpoints and
/// proofs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash(pub [u8; 32]);

impl TreeHash {
    /// The root of the tree without leaves: SHA-256 of nothing (RFC 9162 section 2.1.1).
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the base64 of 32 bytes, in its one canonical spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tree hash is the padded standard base64 of 32 bytes")]
pub struct NotATreeHash;

impl FromStr for TreeHash {
    type Err = NotATreeHash;

    /// Reads the one spelling that [`fmt::Display`] writes: padding is required, and the bits
    /// that carry no data are zero.
    fn from_str(text: &str) -> Result<Self, NotATreeHash> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| NotATreeHash)?;
        Ok(Self(bytes.try_into().map_err(|_| NotATreeHash)?))
    }
}

/// The hash of the leaf of a row: SHA-256(0x00 ‖ row hash) (RFC 9162 section 2.1.1).
pub fn leaf_hash(row_hash: RowHash) -> TreeHash {
    let mut sha = Sha256::new();
    sha.update([0x00]);
    sha.update(row_hash.0);
    TreeHash(sha.finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right) (RFC 9162 section 2.1.1).
pub fn node_hash(left: TreeHash, right: TreeHash) -> TreeHash {
    let mut sha = Sha256::new();
    sha.update([0x01]);
    sha.update(left.0);
    sha.update(right.0);
    TreeHash(sha.finalize().into())
}

/// A tree of one size: what a checkpoint claims, and what proofs are verified against.
///
/// Size and root belong together: several sizes share the shape of a proof, so a proof shows
/// something only where both come from the same trusted checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// How many leaves the tree has.
    pub size: TreeSize,
    /// The hash over all of them.
    pub root: TreeHash,
}

/// A complete subtree: the 2^`level` leaves from `index` · 2^`level`.
///
/// These are the coordinates of C2SP tlog-tiles, where the hash of such a subtree never changes
/// once all of its leaves exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtree {
    /// Height above the leaves; 0 is a single leaf. At most 63.
    pub level: u8,
    /// How many complete subtrees of this level stand to the left.
    pub index: u64,
}

/// A tree that grows leaf by leaf and keeps only the hashes of its largest complete subtrees:
/// at most 64, whatever its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// One hash for each set bit of `size`, the largest subtree (leftmost leaves) first.
    peaks: Vec<TreeHash>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The tree without leaves.
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// Continues a tree of `size` leaves whose subtree hashes were stored.
    ///
    /// `hash_of` is asked for the at most 64 complete subtrees that make up the tree; its errors
    /// are returned as they are. The result is as true as the hashes: compare its root.
    pub fn restore<E>(
        size: TreeSize,
        hash_of: impl FnMut(Subtree) -> Result<TreeHash, E>,
    ) -> Result<Self, E> {
        let peaks = LeafRange { start: 0, end: size.0 }
            .subtrees()
            .map(hash_of)
            .collect::<Result<_, E>>()?;
        Ok(Self { size: size.0, peaks })
    }

    /// Appends the leaf of a row.
    ///
    /// # Panics
    /// Where the tree already has 2^64 - 1 leaves.
    pub fn push(&mut self, row_hash: RowHash) {
        self.push_and_keep(row_hash, |_, _| ());
    }

    /// Appends the leaf of a row and hands `keep` every complete subtree that it finishes, from
    /// the leaf upwards, for storage that later serves [`ProofPlan::prove`].
    ///
    /// # Panics
    /// Where the tree already has 2^64 - 1 leaves.
    pub fn push_and_keep(&mut self, row_hash: RowHash, mut keep: impl FnMut(Subtree, TreeHash)) {
        let index = self.size;
        self.size = index.checked_add(1).expect("fewer than 2^64 leaves");
        let mut hash = leaf_hash(row_hash);
        keep(Subtree { level: 0, index }, hash);
        // As in a binary counter: each trailing one of the old size is a peak that the new leaf
        // doubles.
        for level in 1..=index.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for each set bit of the size");
            hash = node_hash(left, hash);
            let level = u8::try_from(level).expect("fewer than 64 levels");
            keep(Subtree { level, index: index >> level }, hash);
        }
        self.peaks.push(hash);
    }

    /// How many leaves were appended.
    pub const fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// The root over all leaves so far, MTH(D\[n\]) of RFC 9162 section 2.1.1.
    pub fn root(&self) -> TreeHash {
        join(self.peaks.iter().copied())
    }

    /// Size and root together.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size(), root: self.root() }
    }
}

/// MTH over adjacent complete subtrees of falling size: the right ones are joined first, since
/// RFC 9162 splits at the largest power of two below the size.
fn join(peaks: impl DoubleEndedIterator<Item = TreeHash>) -> TreeHash {
    peaks.rev().reduce(|right, left| node_hash(left, right)).unwrap_or(TreeHash::EMPTY)
}

/// The largest power of two smaller than `leaves`, k in RFC 9162 section 2.1.1; for two leaves
/// or more.
const fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Leaves from `start` up to, not with, `end`: a node of some tree, so that `start` is a multiple
/// of a power of two which is at least the range's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LeafRange {
    start: u64,
    end: u64,
}

impl LeafRange {
    /// The left and the right child of a node over two leaves or more.
    const fn children(self) -> (Self, Self) {
        let middle = self.start + split(self.end - self.start);
        (Self { start: self.start, end: middle }, Self { start: middle, end: self.end })
    }

    /// The complete subtrees that the range consists of, largest first.
    fn subtrees(self) -> impl DoubleEndedIterator<Item = Subtree> {
        let length = self.end - self.start;
        (0..64_u8).rev().filter(move |level| length >> level & 1 == 1).map(move |level| {
            // What the larger subtrees to the left cover: the bits of the length above this one.
            let covered = length.checked_shr(u32::from(level) + 1).unwrap_or(0);
            Subtree { level, index: (self.start >> level) + (covered << 1) }
        })
    }
}

/// Which hashes a proof consists of, before anyone has looked them up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPlan {
    /// In the order of the proof: from the leaves towards the root.
    ranges: Vec<LeafRange>,
}

impl ProofPlan {
    /// All complete subtrees that [`Self::prove`] will ask for, in that order, so that they can
    /// be fetched together. At most 64 for each hash of the proof; in practice a few.
    pub fn subtrees(&self) -> impl Iterator<Item = Subtree> {
        self.ranges.iter().flat_map(|range| range.subtrees())
    }

    /// The proof, from the hashes of complete subtrees that `hash_of` looks up.
    ///
    /// Errors are those of `hash_of`, as they are. A source that gives wrong hashes yields a
    /// proof that does not verify.
    pub fn prove<E>(
        &self,
        mut hash_of: impl FnMut(Subtree) -> Result<TreeHash, E>,
    ) -> Result<Vec<TreeHash>, E> {
        let hash_of_range = |range: &LeafRange| {
            let peaks = range.subtrees().map(&mut hash_of).collect::<Result<Vec<_>, E>>()?;
            Ok(join(peaks.into_iter()))
        };
        self.ranges.iter().map(hash_of_range).collect()
    }
}

/// Plans the proof that a leaf is in the tree of the first `size` leaves: PATH(m, D\[n\]) of RFC
/// 9162 section 2.1.3.1. Refuses a leaf outside that tree.
pub fn inclusion_proof(index: LeafIndex, size: TreeSize) -> Result<ProofPlan, ProofError> {
    if index.0 >= size.0 {
        return Err(ProofError::LeafOutsideTree { index, size });
    }
    let mut ranges = Vec::new();
    let mut node = LeafRange { start: 0, end: size.0 };
    while node.end - node.start > 1 {
        let (left, right) = node.children();
        // PATH(m, D_n) = PATH(m, D[0:k]) : MTH(D[k:n]) for m < k, else
        //                PATH(m - k, D[k:n]) : MTH(D[0:k])
        if index.0 < left.end {
            ranges.push(right);
            node = left;
        } else {
            ranges.push(left);
            node = right;
        }
    }
    // Collected on the way down; the definition appends on the way up.
    ranges.reverse();
    Ok(ProofPlan { ranges })
}

/// Plans the proof that the tree of the first `to` leaves begins with the tree of the first
/// `from`: PROOF(m, D\[n\]) of RFC 9162 section 2.1.4.1. Refuses `from` above `to`.
///
/// The RFC defines the proof for 0 < `from` < `to`. From size 0 and for equal sizes it is empty
/// here, as [`verify_consistency`] expects.
pub fn consistency_proof(from: TreeSize, to: TreeSize) -> Result<ProofPlan, ProofError> {
    if from > to {
        return Err(ProofError::Shrinks { from, to });
    }
    let mut ranges = Vec::new();
    if from.0 == 0 {
        return Ok(ProofPlan { ranges });
    }
    // SUBPROOF's b: this node is the whole older tree, whose root the verifier has.
    let mut is_older_tree = true;
    let mut node = LeafRange { start: 0, end: to.0 };
    while node.end != from.0 {
        let (left, right) = node.children();
        // SUBPROOF(m, D_n, b) = SUBPROOF(m, D[0:k], b) : MTH(D[k:n]) for m <= k, else
        //                       SUBPROOF(m - k, D[k:n], false) : MTH(D[0:k])
        if from.0 <= left.end {
            ranges.push(right);
            node = left;
        } else {
            ranges.push(left);
            node = right;
            is_older_tree = false;
        }
    }
    // SUBPROOF(m, D_m, true) = {}, SUBPROOF(m, D_m, false) = {MTH(D_m)}
    if !is_older_tree {
        ranges.push(node);
    }
    ranges.reverse();
    Ok(ProofPlan { ranges })
}

/// Why a proof cannot exist or shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf index is not below the tree size.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    LeafOutsideTree {
        /// The leaf asked for.
        index: LeafIndex,
        /// The leaves there are.
        size: TreeSize,
    },
    /// The older tree is larger than the newer one.
    #[error("a tree of {from} leaves cannot begin a tree of {to}")]
    Shrinks {
        /// Size of the older tree.
        from: TreeSize,
        /// Size of the newer tree.
        to: TreeSize,
    },
    /// The proof has fewer hashes than the sizes call for.
    #[error("the proof has too few hashes")]
    TooShort,
    /// The proof has more hashes than the sizes call for.
    #[error("the proof has too many hashes")]
    TooLong,
    /// The proof leads to another root, or the newer tree does not begin with the older one.
    #[error("the proof does not lead to the root {0}")]
    OtherRoot(TreeHash),
}

/// Verifies that the leaf of `row_hash` stands at `index` in the tree `head` (RFC 9162 section
/// 2.1.3.2).
///
/// `Ok` says so only if `head` is trusted, that is, from a checkpoint whose signature verified.
pub fn verify_inclusion(
    row_hash: RowHash,
    index: LeafIndex,
    proof: &[TreeHash],
    head: TreeHead,
) -> Result<(), ProofError> {
    // 1. Fail if leaf_index is not below tree_size.
    if index.0 >= head.size.0 {
        return Err(ProofError::LeafOutsideTree { index, size: head.size });
    }
    // 2. Set fn to leaf_index and sn to tree_size - 1.
    let mut position = Position { first: index.0, second: head.size.0 - 1 };
    // 3. Set r to hash.
    let mut hash = leaf_hash(row_hash);
    // 4. For each value p in the inclusion path:
    for &sibling in proof {
        // 4.a, 4.b, 4.c: see Position::ascend.
        hash = match position.ascend()? {
            Side::Left => node_hash(sibling, hash), // 4.b.i. r = HASH(0x01 || p || r)
            Side::Right => node_hash(hash, sibling), // otherwise r = HASH(0x01 || r || p)
        };
    }
    // 5. Compare sn to 0, and r to the root hash.
    position.finish()?;
    require_root(hash, head.root)
}

/// Verifies that the tree `to` begins with all leaves of the tree `from`, in order (RFC 9162
/// section 2.1.4.2).
///
/// Two cases that the RFC leaves out: every tree begins with the empty one, so from size 0 the
/// proof is empty and only `from.root` is checked, to be [`TreeHash::EMPTY`]; trees of equal size
/// need an empty proof and equal roots. Refuses `from` larger than `to`.
pub fn verify_consistency(
    from: TreeHead,
    proof: &[TreeHash],
    to: TreeHead,
) -> Result<(), ProofError> {
    if from.size > to.size {
        return Err(ProofError::Shrinks { from: from.size, to: to.size });
    }
    if from.size.0 == 0 || from.size == to.size {
        if !proof.is_empty() {
            return Err(ProofError::TooLong);
        }
        if from.size.0 == 0 {
            require_root(TreeHash::EMPTY, from.root)?;
        }
        if from.size == to.size {
            require_root(from.root, to.root)?;
        }
        return Ok(());
    }
    // 1. Fail if the consistency path is empty.
    let (&given, after_given) = proof.split_first().ok_or(ProofError::TooShort)?;
    // 2. If first is an exact power of 2, then prepend first_hash to the path: the older tree is
    //    then itself a node of the newer one.
    let (start, path) =
        if from.size.0.is_power_of_two() { (from.root, proof) } else { (given, after_given) };
    // 3. Set fn to first - 1 and sn to second - 1.
    let mut position = Position { first: from.size.0 - 1, second: to.size.0 - 1 };
    // 4. If LSB(fn) is set, right-shift both until LSB(fn) is not set.
    position.shift(position.first.trailing_ones());
    // 5. Set both fr and sr to the first value of the path.
    let (mut from_hash, mut to_hash) = (start, start);
    // 6. For each subsequent value c:
    for &sibling in path {
        // 6.a, 6.b, 6.c: see Position::ascend.
        match position.ascend()? {
            Side::Left => {
                from_hash = node_hash(sibling, from_hash); // 6.b.i. fr = HASH(0x01 || c || fr)
                to_hash = node_hash(sibling, to_hash); // 6.b.ii. sr = HASH(0x01 || c || sr)
            }
            Side::Right => to_hash = node_hash(to_hash, sibling), // sr = HASH(0x01 || sr || c)
        }
    }
    // 7. fr is first_hash, sr is second_hash, and sn is 0.
    position.finish()?;
    require_root(from_hash, from.root)?;
    require_root(to_hash, to.root)
}

fn require_root(computed: TreeHash, expected: TreeHash) -> Result<(), ProofError> {
    if computed == expected { Ok(()) } else { Err(ProofError::OtherRoot(expected)) }
}

/// Where the next hash of a proof stands, seen from the node reached so far.
enum Side {
    Left,
    Right,
}

/// The RFC's fn and sn: the node reached and the last node, both counted on the node's level.
struct Position {
    first: u64,
    second: u64,
}

impl Position {
    /// One turn of the loop, steps 4 of section 2.1.3.2 and 6 of section 2.1.4.2, but for the
    /// hashing: on which side the sibling stands, and up to the parent.
    fn ascend(&mut self) -> Result<Side, ProofError> {
        // a. If sn is 0, the root was reached before this hash: fail.
        if self.second == 0 {
            return Err(ProofError::TooLong);
        }
        // b. If LSB(fn) is set, or if fn is equal to sn: the sibling stands on the left.
        let side = if self.first & 1 == 1 || self.first == self.second {
            // b.ii / b.iii. If LSB(fn) is not set, right-shift both until it is set: a node
            // without a right sibling is its own parent. (fn = sn is not 0 here, by a.)
            self.shift(self.first.trailing_zeros());
            Side::Left
        } else {
            Side::Right
        };
        // c. Right-shift both fn and sn one time.
        self.shift(1);
        Ok(side)
    }

    /// Right-shifts both; always by fewer than 64, since neither 0 nor 2^64 - 1 comes here.
    fn shift(&mut self, levels: u32) {
        self.first >>= levels;
        self.second >>= levels;
    }

    /// The last step's condition on sn: the root was reached.
    fn finish(&self) -> Result<(), ProofError> {
        if self.second == 0 { Ok(()) } else { Err(ProofError::TooShort) }
    }
}
