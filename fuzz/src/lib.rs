//! What audit-ledger parses, as targets for cargo-fuzz. The same targets run for a moment in the
//! tests of the two crates: see README.md.

#[macro_use]
mod service;
#[macro_use]
mod verifier;

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    macro_rules! of_service {
        ($($target:ident)*) => {
            match name {
                $(stringify!($target) => Some(service::$target(data)),)*
                _ => None,
            }
        };
    }
    macro_rules! of_verifier {
        ($($target:ident)*) => {
            match name {
                $(stringify!($target) => Some(verifier::$target(data)),)*
                _ => None,
            }
        };
    }
    let is_valid = service_targets!(of_service).or_else(|| verifier_targets!(of_verifier));
    assert!(is_valid.is_some(), "there is no target {name}");
}
