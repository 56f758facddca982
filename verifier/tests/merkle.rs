//! The Merkle tree against its vectors, RFC 9162's own definitions, and ct-merkle.

use std::collections::HashMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use ledger_verifier::merkle::{
    ProofError, Subtree, Tree, TreeHash, TreeHead, consistency_proof, inclusion_proof, leaf_hash,
    node_hash, verify_consistency, verify_inclusion,
};
use ledger_verifier::{LeafIndex, RowHash, TreeSize};
use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// RFC 9162 section 2.1, letter by letter, on slices.
mod naive {
    use super::{Digest, RowHash, Sha256, TreeHash};

    fn hash(parts: &[&[u8]]) -> TreeHash {
        TreeHash(Sha256::digest(parts.concat()).into())
    }

    fn split(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    /// MTH(D\[n\]), section 2.1.1.
    pub(super) fn mth(d: &[RowHash]) -> TreeHash {
        match d {
            [] => hash(&[]),
            [leaf] => hash(&[&[0x00], &leaf.0]),
            _ => {
                let (left, right) = d.split_at(split(d.len()));
                hash(&[&[0x01], &mth(left).0, &mth(right).0])
            }
        }
    }

    /// PATH(m, D\[n\]), section 2.1.3.1.
    pub(super) fn path(m: usize, d: &[RowHash]) -> Vec<TreeHash> {
        if d.len() == 1 {
            return vec![];
        }
        let k = split(d.len());
        let (left, right) = d.split_at(k);
        let (mut path, sibling) =
            if m < k { (path(m, left), mth(right)) } else { (path(m - k, right), mth(left)) };
        path.push(sibling);
        path
    }

    /// SUBPROOF(m, D\[n\], b), section 2.1.4.1; PROOF is the one with b = true.
    pub(super) fn subproof(m: usize, d: &[RowHash], b: bool) -> Vec<TreeHash> {
        if m == d.len() {
            return if b { vec![] } else { vec![mth(d)] };
        }
        let k = split(d.len());
        let (left, right) = d.split_at(k);
        let (mut proof, sibling) = if m <= k {
            (subproof(m, left, b), mth(right))
        } else {
            (subproof(m - k, right, false), mth(left))
        };
        proof.push(sibling);
        proof
    }

    /// The sides of PATH's hashes: all that a verifier can learn from index and size.
    pub(super) fn path_shape(m: usize, n: usize) -> String {
        if n == 1 {
            return String::new();
        }
        let k = split(n);
        if m < k { path_shape(m, k) + "R" } else { path_shape(m - k, n - k) + "L" }
    }

    /// The same for SUBPROOF, beginning with whether the first hash is given.
    pub(super) fn subproof_shape(m: usize, n: usize, b: bool) -> String {
        if m == n {
            return if b { "root" } else { "given" }.to_owned();
        }
        let k = split(n);
        if m <= k {
            subproof_shape(m, k, b) + "R"
        } else {
            subproof_shape(m - k, n - k, false) + "L"
        }
    }
}

/// Rows, and the complete subtrees over them as a store would have them.
struct Log {
    rows: Vec<RowHash>,
    subtrees: HashMap<Subtree, TreeHash>,
    tree: Tree,
}

impl Log {
    fn new(rows: Vec<RowHash>) -> Self {
        let (mut tree, mut subtrees) = (Tree::new(), HashMap::new());
        for &row in &rows {
            tree.push_and_keep(row, |subtree, hash| {
                assert_eq!(subtrees.insert(subtree, hash), None, "{subtree:?} finished twice");
            });
        }
        Self { rows, subtrees, tree }
    }

    fn of_size(size: usize) -> Self {
        Self::new((0..size).map(|at| RowHash(Sha256::digest(at.to_be_bytes()).into())).collect())
    }

    fn hash(&self, subtree: Subtree) -> Result<TreeHash, Subtree> {
        self.subtrees.get(&subtree).copied().ok_or(subtree)
    }

    fn head(&self, size: usize) -> TreeHead {
        head(size, naive::mth(&self.rows[..size]))
    }

    fn inclusion(&self, index: usize, size: usize) -> Vec<TreeHash> {
        let plan = inclusion_proof(leaf(index), leaves(size)).unwrap();
        plan.prove(|subtree| self.hash(subtree)).unwrap()
    }

    fn consistency(&self, from: usize, to: usize) -> Vec<TreeHash> {
        let plan = consistency_proof(leaves(from), leaves(to)).unwrap();
        plan.prove(|subtree| self.hash(subtree)).unwrap()
    }
}

fn leaf(index: usize) -> LeafIndex {
    LeafIndex(index as u64)
}

fn leaves(size: usize) -> TreeSize {
    TreeSize(size as u64)
}

fn head(size: usize, root: TreeHash) -> TreeHead {
    TreeHead { size: leaves(size), root }
}

fn flipped(hash: TreeHash, bit: usize) -> TreeHash {
    let mut bytes = hash.0;
    bytes[bit / 8 % 32] ^= 1 << (bit % 8);
    TreeHash(bytes)
}

/// Every proof that is one mistake away: a hash flipped, dropped, doubled, swapped with another,
/// added at either end.
fn spoiled(proof: &[TreeHash]) -> Vec<Vec<TreeHash>> {
    let edit = |change: &dyn Fn(&mut Vec<TreeHash>)| {
        let mut copy = proof.to_vec();
        change(&mut copy);
        copy
    };
    let mut all = vec![
        edit(&|proof| proof.push(TreeHash([0; 32]))),
        edit(&|proof| proof.insert(0, TreeHash::EMPTY)),
    ];
    for at in 0..proof.len() {
        for bit in [0, 77, 255] {
            all.push(edit(&|proof| proof[at] = flipped(proof[at], bit)));
        }
        all.push(edit(&|proof| _ = proof.remove(at)));
        all.push(edit(&|proof| proof.insert(at, proof[at])));
        all.extend((0..at).map(|other| edit(&|proof| proof.swap(at, other))));
    }
    all
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "note")]
    _note: String,
    row_hashes: Vec<String>,
    leaf_hashes: Vec<String>,
    roots: Vec<Root>,
    inclusion: Vec<Inclusion>,
    consistency: Vec<Consistency>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    tree_size: usize,
    root: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inclusion {
    leaf_index: usize,
    tree_size: usize,
    proof: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Consistency {
    from_size: usize,
    to_size: usize,
    proof: Vec<String>,
}

fn printed(hashes: &[TreeHash]) -> Vec<String> {
    hashes.iter().map(TreeHash::to_string).collect()
}

fn parsed(hashes: &[String]) -> Vec<TreeHash> {
    hashes.iter().map(|hash| hash.parse().unwrap()).collect()
}

#[test]
fn vectors() {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/merkle.json")).unwrap();
    let rows: Vec<RowHash> = vectors.row_hashes.iter().map(|row| row.parse().unwrap()).collect();
    let leaf_hashes: Vec<_> = rows.iter().map(|&row| leaf_hash(row)).collect();
    assert_eq!(printed(&leaf_hashes), vectors.leaf_hashes);

    let sizes: Vec<_> = vectors.roots.iter().map(|vector| vector.tree_size).collect();
    assert_eq!(sizes, (0..=rows.len()).collect::<Vec<_>>());
    let mut tree = Tree::new();
    for vector in &vectors.roots {
        assert_eq!(tree.size(), leaves(vector.tree_size));
        assert_eq!(tree.root().to_string(), vector.root);
        if let Some(&row) = rows.get(vector.tree_size) {
            tree.push(row);
        }
    }

    let root = |size: usize| head(size, vectors.roots[size].root.parse().unwrap());
    let log = Log::new(rows);
    assert_eq!(vectors.inclusion.len(), 18);
    for vector in &vectors.inclusion {
        let (index, size) = (vector.leaf_index, vector.tree_size);
        assert_eq!(printed(&log.inclusion(index, size)), vector.proof);
        let proof = parsed(&vector.proof);
        assert_eq!(verify_inclusion(log.rows[index], leaf(index), &proof, root(size)), Ok(()));
    }
    assert_eq!(vectors.consistency.len(), 9);
    for vector in &vectors.consistency {
        let (from, to) = (vector.from_size, vector.to_size);
        assert_eq!(printed(&log.consistency(from, to)), vector.proof);
        let proof = parsed(&vector.proof);
        assert_eq!(verify_consistency(root(from), &proof, root(to)), Ok(()));
    }
}

#[test]
fn a_tree_hash_has_one_spelling() {
    let text = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(TreeHash(Sha256::digest([]).into()), TreeHash::EMPTY);
    assert_eq!(TreeHash::EMPTY.to_string(), text);
    assert_eq!(text.parse(), Ok(TreeHash::EMPTY));
    for other in [
        "",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= ",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFUA",
    ] {
        assert!(other.parse::<TreeHash>().is_err(), "{other:?}");
    }
}

/// Large enough that every shape of the small levels occurs, small enough to try everything.
const ALL: usize = 33;

#[test]
fn every_small_inclusion_proof() {
    let log = Log::of_size(ALL);
    for size in 1..=ALL {
        let tree = log.head(size);
        for index in 0..size {
            let row = log.rows[index];
            let proof = log.inclusion(index, size);
            assert_eq!(proof, naive::path(index, &log.rows[..size]));
            assert_eq!(verify_inclusion(row, leaf(index), &proof, tree), Ok(()));

            let refused = |row, proof: &[TreeHash], tree| {
                verify_inclusion(row, leaf(index), proof, tree).is_err()
            };
            for spoiled in spoiled(&proof) {
                assert!(refused(row, &spoiled, tree), "{index} {size} {spoiled:?}");
            }
            assert!(refused(RowHash(flipped(TreeHash(row.0), 9).0), &proof, tree));
            assert!(refused(row, &proof, head(size, flipped(tree.root, 9))));
            assert!(refused(row, &proof, head(0, tree.root)));
            // Another position is refused unless its proof has the same shape, and then only
            // the root, which is the checkpoint's, could tell.
            for other_size in 1..=ALL {
                for other in 0..=other_size {
                    let tree = head(other_size, tree.root);
                    let accepted = verify_inclusion(row, leaf(other), &proof, tree).is_ok();
                    let same = other < other_size
                        && naive::path_shape(other, other_size) == naive::path_shape(index, size);
                    assert_eq!(accepted, same, "{index}/{size} as {other}/{other_size}");
                }
            }
        }
    }
}

#[test]
fn every_small_consistency_proof() {
    let log = Log::of_size(ALL);
    let heads: Vec<_> = (0..=ALL).map(|size| log.head(size)).collect();
    for to in 1..=ALL {
        for from in 1..=to {
            let (older, newer) = (heads[from], heads[to]);
            let proof = log.consistency(from, to);
            assert_eq!(proof, naive::subproof(from, &log.rows[..to], true));
            assert_eq!(verify_consistency(older, &proof, newer), Ok(()));

            for spoiled in spoiled(&proof) {
                assert!(verify_consistency(older, &spoiled, newer).is_err(), "{from} {to}");
            }
            let other = |tree: TreeHead| TreeHead { root: flipped(tree.root, 9), ..tree };
            assert!(verify_consistency(other(older), &proof, newer).is_err());
            assert!(verify_consistency(older, &proof, other(newer)).is_err());
            if from != to {
                assert!(verify_consistency(newer, &proof, older).is_err());
                assert!(verify_consistency(older, &[], newer).is_err());
                // A fork: the older root swapped for the newer and the other way round.
                let (from, to) = (head(from, newer.root), head(to, older.root));
                assert!(verify_consistency(from, &proof, to).is_err());
            }
            for other_to in 0..=ALL {
                for other_from in 0..=ALL {
                    let (older, newer) = (head(other_from, older.root), head(other_to, newer.root));
                    let accepted = verify_consistency(older, &proof, newer).is_ok();
                    let same = (1..=other_to).contains(&other_from)
                        && naive::subproof_shape(other_from, other_to, true)
                            == naive::subproof_shape(from, to, true);
                    assert_eq!(accepted, same, "{from} -> {to} as {other_from} -> {other_to}");
                }
            }
        }
    }
}

#[test]
fn every_tree_begins_with_the_empty_one() {
    let log = Log::of_size(5);
    let (empty, tree) = (log.head(0), log.head(5));
    assert_eq!(empty.root, TreeHash::EMPTY);
    assert_eq!(log.consistency(0, 5), []);
    assert_eq!(log.consistency(0, 0), []);
    assert_eq!(verify_consistency(empty, &[], tree), Ok(()));
    assert_eq!(verify_consistency(empty, &[], empty), Ok(()));

    let (not_empty, proof) = (head(0, tree.root), [tree.root]);
    let other_root = Err(ProofError::OtherRoot(tree.root));
    assert_eq!(verify_consistency(empty, &proof, tree), Err(ProofError::TooLong));
    assert_eq!(verify_consistency(empty, &proof, empty), Err(ProofError::TooLong));
    assert_eq!(verify_consistency(not_empty, &[], tree), other_root);
    assert_eq!(verify_consistency(not_empty, &[], not_empty), other_root);
    assert_eq!(verify_consistency(empty, &[], not_empty), other_root);
}

#[test]
fn errors_say_what_is_wrong() {
    let log = Log::of_size(7);
    let (tree, row) = (log.head(7), log.rows[2]);
    let proof = log.inclusion(2, 7);
    let verify = |index, proof: &[TreeHash]| verify_inclusion(row, leaf(index), proof, tree);
    assert_eq!(verify(2, &proof[1..]), Err(ProofError::TooShort));
    assert_eq!(verify(2, &[&proof[..], &proof[..1]].concat()), Err(ProofError::TooLong));
    assert_eq!(verify(3, &proof), Err(ProofError::OtherRoot(tree.root)));
    let outside = ProofError::LeafOutsideTree { index: leaf(7), size: leaves(7) };
    assert_eq!(verify(7, &proof), Err(outside));
    assert_eq!(inclusion_proof(leaf(7), leaves(7)), Err(outside));
    assert!(inclusion_proof(leaf(0), leaves(0)).is_err());

    let shrinks = ProofError::Shrinks { from: leaves(7), to: leaves(3) };
    assert_eq!(consistency_proof(leaves(7), leaves(3)), Err(shrinks));
    assert_eq!(verify_consistency(tree, &[], log.head(3)), Err(shrinks));
    assert_eq!(verify_consistency(log.head(4), &[], tree), Err(ProofError::TooShort));
    assert_eq!(verify_consistency(tree, &[tree.root], tree), Err(ProofError::TooLong));

    let plan = inclusion_proof(leaf(2), leaves(7)).unwrap();
    assert_eq!(plan.prove(Err::<TreeHash, Subtree>), Err(Subtree { level: 0, index: 3 }));
}

#[test]
fn a_plan_names_the_subtrees_it_asks_for() {
    let plan = inclusion_proof(leaf(2), leaves(7)).unwrap();
    let named: Vec<_> = plan.subtrees().map(|subtree| (subtree.level, subtree.index)).collect();
    // Leaf 3; leaves 0 and 1; leaves 4, 5 and leaf 6 for the right half.
    assert_eq!(named, [(0, 3), (1, 0), (1, 2), (0, 6)]);
    let mut asked = Vec::new();
    let answer = |subtree: Subtree| {
        asked.push((subtree.level, subtree.index));
        Ok::<_, ()>(TreeHash::EMPTY)
    };
    plan.prove(answer).unwrap();
    assert_eq!(asked, named);
}

/// A tree of equal leaves: all complete subtrees of a level have one hash, so that sizes up to
/// the last one can be tried.
fn uniform() -> (RowHash, Vec<TreeHash>) {
    let row = RowHash([7; 32]);
    let levels = std::iter::successors(Some(leaf_hash(row)), |&hash| Some(node_hash(hash, hash)));
    (row, levels.take(64).collect())
}

fn uniform_case(index: u64, from: u64, size: u64) {
    let (row, levels) = uniform();
    let hash_of = |subtree: Subtree| {
        let first = u128::from(subtree.index) << subtree.level;
        assert!(first + (1 << subtree.level) <= u128::from(size), "{subtree:?} outside {size}");
        Ok::<_, ()>(levels[usize::from(subtree.level)])
    };
    let head_at = |size| Tree::restore(TreeSize(size), hash_of).unwrap().head();
    let (older, newer) = (head_at(from), head_at(size));

    let proof = inclusion_proof(LeafIndex(index), newer.size).unwrap().prove(hash_of).unwrap();
    assert!(proof.len() <= 64);
    assert_eq!(verify_inclusion(row, LeafIndex(index), &proof, newer), Ok(()));
    for spoiled in [&proof[..proof.len().saturating_sub(1)], &[&proof[..], &[newer.root]].concat()]
    {
        let refused = verify_inclusion(row, LeafIndex(index), spoiled, newer).is_err();
        assert_eq!(refused, *spoiled != proof);
    }

    let proof = consistency_proof(older.size, newer.size).unwrap().prove(hash_of).unwrap();
    assert!(proof.len() <= 65);
    assert_eq!(verify_consistency(older, &proof, newer), Ok(()));
    assert!(verify_consistency(older, &[&proof[..], &[newer.root]].concat(), newer).is_err());
}

#[test]
fn the_largest_sizes() {
    let sizes = [1, 2, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 1];
    for size in sizes.into_iter().chain([u64::MAX]) {
        for from in sizes.into_iter().chain([u64::MAX]).filter(|&from| from <= size) {
            uniform_case(from - 1, from, size);
        }
        uniform_case(0, 0, size);
    }
}

type Oracle = MemoryBackedTree<Sha256, [u8; 32]>;

fn oracle_root(tree: TreeHead) -> RootHash<Sha256> {
    RootHash::new(tree.root.0.into(), tree.size.0)
}

fn bytes(proof: &[TreeHash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn ct_merkle_agrees() {
    let log = Log::of_size(40);
    let mut oracle = Oracle::new();
    for size in 1..=log.rows.len() {
        oracle.push(log.rows[size - 1].0);
        let tree = log.head(size);
        assert_eq!(oracle.root(), oracle_root(tree));
        for index in 0..size {
            let proof = log.inclusion(index, size);
            assert_eq!(oracle.prove_inclusion(index).as_bytes(), bytes(&proof));
            for proof in spoiled(&proof).into_iter().chain([proof]) {
                let theirs = InclusionProof::try_from_bytes(bytes(&proof)).unwrap();
                let row = log.rows[index];
                let theirs = oracle_root(tree).verify_inclusion(&row.0, index as u64, &theirs);
                let ours = verify_inclusion(row, leaf(index), &proof, tree);
                assert_eq!(ours.is_ok(), theirs.is_ok(), "{index} {size}: {ours:?} {theirs:?}");
            }
        }
        for from in 1..=size {
            let (older, proof) = (log.head(from), log.consistency(from, size));
            assert_eq!(oracle.prove_consistency(size - from).as_bytes(), bytes(&proof));
            for proof in spoiled(&proof).into_iter().chain([proof]) {
                let theirs = ConsistencyProof::try_from_bytes(bytes(&proof)).unwrap();
                let theirs = oracle_root(tree).verify_consistency(&oracle_root(older), &theirs);
                let ours = verify_consistency(older, &proof, tree);
                assert_eq!(ours.is_ok(), theirs.is_ok(), "{from} {size}: {ours:?} {theirs:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_tree(rows in prop::collection::vec(any::<[u8; 32]>(), 1..400), a: prop::sample::Index,
                b: prop::sample::Index, c: prop::sample::Index) {
        let log = Log::new(rows.into_iter().map(RowHash).collect());
        prop_assert_eq!(log.tree.head(), log.head(log.rows.len()));

        let size = a.index(log.rows.len()) + 1;
        let (index, from) = (b.index(size), c.index(size) + 1);
        let (older, newer) = (log.head(from), log.head(size));
        let restored = Tree::restore(newer.size, |subtree| log.hash(subtree)).unwrap();
        prop_assert_eq!(restored.head(), newer);
        // A tree that was restored grows like one that never stopped.
        let mut grown = restored;
        log.rows[size..].iter().for_each(|&row| grown.push(row));
        prop_assert_eq!(&grown, &log.tree);

        let proof = log.inclusion(index, size);
        prop_assert_eq!(&proof, &naive::path(index, &log.rows[..size]));
        prop_assert_eq!(verify_inclusion(log.rows[index], leaf(index), &proof, newer), Ok(()));
        for spoiled in spoiled(&proof) {
            prop_assert!(verify_inclusion(log.rows[index], leaf(index), &spoiled, newer).is_err());
        }

        let proof = log.consistency(from, size);
        prop_assert_eq!(&proof, &naive::subproof(from, &log.rows[..size], true));
        prop_assert_eq!(verify_consistency(older, &proof, newer), Ok(()));
        for spoiled in spoiled(&proof) {
            prop_assert!(verify_consistency(older, &spoiled, newer).is_err());
        }
    }

    #[test]
    fn any_size(mut sizes: [u64; 2], index: u64) {
        sizes.sort_unstable();
        let [from, size] = sizes;
        prop_assume!(size > 0);
        uniform_case(index % size, from, size);
    }
}
