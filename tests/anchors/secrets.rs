//! What an anchor is called and how it is shown, and that URLs that cannot be used are refused
//! without being repeated.

use audit_ledger::integrity::anchors::Anchor;

const VKEY: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";
const LOG_VKEY: &str = "example.com/ledger+d6a5a4ac+AepKbGPinFIKvvVQexMuxflmVR3auvr57kkIe6mkURtI";

#[test]
fn a_name_has_neither_credentials_nor_a_fragment() {
    let witness = format!("witness+https://me:opensesame@witness.example/prefix#{VKEY}");
    for (url, name) in [
        ("file:/var/lib/anchor", "file:/var/lib/anchor"),
        ("https://me:opensesame@example.com/log", "https://example.com/log"),
        ("https://opensesame@example.com", "https://example.com/"),
        ("https://:opensesame@example.com:444/log", "https://example.com:444/log"),
        ("tsa+https://me:opensesame@example.com/tsr", "tsa+https://example.com/tsr"),
        (&witness, "witness+https://witness.example/prefix"),
    ] {
        let anchor = Anchor::parse(url, &[]).unwrap();
        assert_eq!(anchor.name(), name);
        assert_eq!(format!("{anchor:?}"), format!("Anchor({name:?})"));
    }
}

#[test]
fn what_cannot_be_used_is_refused_and_not_repeated() {
    let log_key = format!("witness+https://opensesame@witness.example/prefix#{LOG_VKEY}");
    for (url, rule) in [
        ("", "begins with"),
        ("opensesame", "begins with"),
        ("ftp://me:opensesame@example.com", "begins with"),
        ("me:opensesame@example.com", "begins with"),
        ("https:opensesame:x:y", "is no"),
        ("https://me:opensesame@", "is no"),
        ("https://example.com:opensesame/", "is no"),
        ("https://example.com/log?token=opensesame", "has no query"),
        ("https://example.com/log#opensesame", "has no fragment"),
        ("tsa+https://example.com/?opensesame", "has no query"),
        ("witness+https://opensesame@witness.example/prefix", "the witness's vkey"),
        ("witness+https://witness.example/prefix#opensesame", "no usable vkey"),
        (&log_key, "another type"),
        ("file:opensesame", "absolute path"),
    ] {
        let error = Anchor::parse(url, &[]).unwrap_err();
        assert!(error.contains(rule) && !error.contains("sesame"), "{url}: {error}");
    }
}

#[cfg(not(feature = "s3"))]
#[test]
fn a_build_without_s3_says_so() {
    let error = Anchor::parse("s3://bucket/prefix", &[]).unwrap_err();
    assert!(error.contains("no s3") && !error.contains('\n'), "{error}");
}
