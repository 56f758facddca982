//! Short runs of the fuzz targets of the service (fuzz/README.md).

#[path = "../fuzz/src/short.rs"]
mod short;
#[macro_use]
#[path = "../fuzz/src/service.rs"]
mod targets;

use audit_ledger::store::copy::CopyEncoder;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ledger_verifier::RowHash;
use ledger_verifier::chain::CHAINS;
use ledger_verifier::json::read_json;
use serde_json::Value as Json;

macro_rules! short_runs {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            short::run(stringify!($target), targets::$target);
        }
    )*};
}
service_targets!(short_runs);

/// Writes the seeds that are made, not found: after a change of the format.
#[test]
#[ignore = "it writes into fuzz/corpus"]
fn seeds() {
    let write = |path: &str, bytes: &[u8]| {
        let path = std::path::Path::new("fuzz/corpus").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for (at, chain) in (0..).zip(CHAINS) {
        let line = std::fs::read(format!("fuzz/corpus/row/{}", chain.name)).unwrap();
        let row = read_json(&line).unwrap();
        let mut copy = CopyEncoder::new(chain);
        for _ in 0..2 {
            copy.push(&row.values, row.prev_hash, RowHash([1; 32]));
        }
        let copy = [&[at, 7], copy.finish().as_slice()].concat();
        write(&format!("copy/{}", chain.name), &copy);
    }
    let deliveries: Json = serde_json::from_str(include_str!("fixtures/webhooks.json")).unwrap();
    for delivery in deliveries["deliveries"].as_array().unwrap() {
        let [name, body] = ["name", "body_base64"].map(|member| delivery[member].as_str().unwrap());
        let body = BASE64_STANDARD.decode(body).unwrap();
        if body.len() < 1000 {
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            write(&format!("delivery/{name}"), &body);
        }
    }
}
