//! Short runs of the fuzz targets of this crate (fuzz/README.md).

#[path = "common/built.rs"]
#[expect(dead_code, reason = "other test binaries use the rest")]
mod built;
mod common;
#[path = "../../fuzz/src/short.rs"]
mod short;
#[macro_use]
#[path = "../../fuzz/src/verifier.rs"]
mod targets;

macro_rules! short_runs {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            short::run(stringify!($target), targets::$target);
        }
    )*};
}
verifier_targets!(short_runs);

/// Writes the seeds that are made, not found: after a change of the format.
#[test]
#[ignore = "it writes into fuzz/corpus"]
fn seeds() {
    use built::{Bounds, Ledger, Row, START, genesis, key};
    use ledger_verifier::bundle::FILES;
    use ledger_verifier::note::SigningKey;

    let write = |path: &str, bytes: &[u8]| {
        let path = std::path::Path::new("../fuzz/corpus").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let key = key(None);
    let ledger = Ledger::new(9);
    let rows: String = ledger.rows.iter().map(Row::line).collect();
    let note = ledger.checkpoint(&key);
    let first = ledger.proof(ledger.rows[1].leaf, &note);
    write("vkey/log", key.vkey.as_bytes());
    let private = SigningKey::from_seed("example.com/log", &[7; 32]).unwrap();
    write("vkey/private", private.to_text().as_bytes());
    write("export/rows", rows.as_bytes());
    write("note/log", note.as_bytes());
    let (checkpoint, _) = note.split_at(note.find("\n\n").unwrap() + 1);
    write("checkpoint/log", checkpoint.as_bytes());
    write("proof/first", first.as_bytes());
    let extra = first.replacen("\nindex", "\nextra cm93IDI=\nindex", 1);
    write("proof/extra", extra.as_bytes());

    let mut replay = Ledger { rows: Vec::new(), leaves: Vec::new() };
    let mut before = genesis();
    for (id, leaf) in (1..=6).zip(0..) {
        let row = Row::new(id, START + id, leaf, &before, "{\"why\": 1.0}");
        before.clone_from(&row.hash);
        replay.leaves.push(hex::decode(&row.hash).unwrap().try_into().unwrap());
        replay.rows.push(row);
    }
    let lines: String = replay.rows.iter().map(Row::line).collect();
    write("export/replay", lines.as_bytes());
    write("note/replay", replay.checkpoint(&key).as_bytes());

    let bundle = ledger.bundle(&Bounds::ids(3, 6), &key);
    write("bundle/stored", &bundle.zip());
    write("bundle/deflated", &bundle.deflated());
    write("manifest/ids", bundle.manifest_json().as_bytes());
    let times = Bounds { from: Some(START), to: Some(START + 4_000_000), ..Bounds::default() };
    write("manifest/times", ledger.bundle(&times, &key).manifest_json().as_bytes());
    let mut files = FILES.map(|name| match name {
        "manifest.json" => bundle.manifest_json().into_bytes(),
        name => bundle.clone().file(name).clone(),
    });
    write("forgery/honest", &files.join(&[targets::SEPARATOR][..]));
    // The last row without its proof: only the hashes lead to it.
    files[1] = files[4].clone();
    write("forgery/other_row", &files.join(&[targets::SEPARATOR][..]));

    for chain in ledger_verifier::chain::CHAINS {
        let values = common::plain_row(chain, 7, START);
        let mut line = Vec::new();
        let hashes = (&*before, &*before);
        ledger_verifier::row::write_json(chain, &values, hashes, None, &mut line);
        write(&format!("row/{}", chain.name), &line);
    }
    let line = ledger.rows[4].line();
    write("row/escapes", line.trim_end().as_bytes());
}
