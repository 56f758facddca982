//! The zip around a bundle: how it may be packed, and what no zip may do.

#[path = "common/built.rs"]
#[expect(dead_code, reason = "other test binaries use the rest")]
mod built;
#[path = "common/checked.rs"]
mod checked;

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write as _};

use built::{FILES, key, pack};
use checked::{bundle, require_finding, require_refused, shown, verify};
use ledger_verifier::bundle::{BundleReport, Verdict, verify_bundle};
use proptest::prelude::*;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, result::ZipResult};

#[test]
fn an_archive_may_be_packed_in_several_ways() -> ZipResult<()> {
    let bundle = bundle();
    let manifest = ("manifest.json".to_owned(), bundle.manifest_json().into_bytes());
    let files: Vec<_> = bundle.files.iter().chain([&manifest]).collect();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        for is_large in [false, true] {
            let options =
                SimpleFileOptions::default().compression_method(method).large_file(is_large);
            let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
            let mut streamed = ZipWriter::new_stream(Vec::new());
            for (name, bytes) in &files {
                archive.start_file(name.as_str(), options)?;
                archive.write_all(bytes)?;
                streamed.start_file(name.as_str(), options)?;
                streamed.write_all(bytes)?;
            }
            for zip in [archive.finish()?.into_inner(), streamed.finish()?.into_inner()] {
                assert_eq!(shown(&verify(&zip)), Vec::<String>::new(), "{method} {is_large}");
            }
        }
    }
    Ok(())
}

/// An archive as one of more than 4 GiB is: sizes and places in 64 bits, in extra fields and in an end
/// of its own.
fn large_archive(files: &[(String, Vec<u8>)]) -> (Vec<u8>, usize) {
    const SATURATED: [u8; 4] = [0xff; 4];
    let number = |number: usize| u64::try_from(number).unwrap().to_le_bytes();
    let short = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let at = number(zip.len());
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let sum = crc.sum().to_le_bytes();
        let size = number(bytes.len());
        let header = [&[45, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &sum, &SATURATED, &SATURATED].concat();
        let (name, name_bytes) = (name.as_bytes(), short(name.len()));
        let extra = [&[1, 0, 16, 0][..], &size, &size].concat();
        zip.extend([b"PK\x03\x04", &header[..], &name_bytes, &[20, 0], name, &extra].concat());
        zip.extend(bytes);
        let extra = [&[1, 0, 24, 0][..], &size, &size, &at].concat();
        directory.extend([b"PK\x01\x02", &[45, 0][..], &header, &name_bytes, &[28, 0]].concat());
        directory.extend([&[0; 10][..], &SATURATED, name, &extra].concat());
    }
    let (start, count) = (zip.len(), number(files.len()));
    zip.extend(&directory);
    let end_at = zip.len();
    zip.extend([b"PK\x06\x06", &number(44)[..], &[45, 0, 45, 0], &[0; 8], &count, &count].concat());
    zip.extend([number(directory.len()), number(start)].concat());
    zip.extend([b"PK\x06\x07", &[0; 4][..], &number(end_at), &[1, 0, 0, 0]].concat());
    zip.extend([b"PK\x05\x06", &[0; 4][..], &[0xff; 12], &[0; 2]].concat());
    (zip, end_at)
}

#[test]
fn an_archive_may_be_larger_than_32_bits_tell() {
    let bundle = bundle();
    let manifest = ("manifest.json".to_owned(), bundle.manifest_json().into_bytes());
    let files: Vec<_> = bundle.files.iter().chain([&manifest]).cloned().collect();
    let (zip, end_at) = large_archive(&files);
    assert_eq!(shown(&verify(&zip)), Vec::<String>::new());
    // Every field of the two ends means something, but for the versions.
    for at in (end_at..zip.len()).filter(|at| !(12..16).contains(&(at - end_at))) {
        for other in [zip[at] ^ 1, zip[at] ^ 0x80] {
            let mut changed = zip.clone();
            changed[at] = other;
            require_refused(&changed, &format!("byte {} of the end", at - end_at));
        }
    }
}

#[test]
fn an_archive_has_nothing_beside_its_files() {
    let honest = bundle();
    let zip = honest.deflated();
    assert_eq!(verify(&zip).verdict(), Verdict::Verified);
    for cut in (0..zip.len()).step_by(13) {
        require_refused(&zip[..cut], &format!("cut at {cut}"));
        require_refused(&zip[zip.len() - cut..], &format!("cut before {cut}"));
    }
    require_finding(&[&zip[..], b"x"].concat(), "container: ");
    require_finding(&[b"x", &zip[..]].concat(), "container: ");
    require_finding(&[&zip[..], &zip[..]].concat(), "container: ");
    // The files are hashed, not the times and versions that a zip has of them: a changed byte of
    // the archive either shows, or changes nothing that is read.
    let files =
        |report: &BundleReport| (report.manifest.clone(), report.proved(), report.not_proved());
    let expected = files(&verify(&zip));
    let mut unread = 0;
    for at in 0..zip.len() {
        for bit in [0, 5] {
            let mut changed = zip.clone();
            changed[at] ^= 1 << bit;
            let report = verify(&changed);
            if report.verdict() == Verdict::Verified {
                assert_eq!(files(&report), expected, "at {at}");
                unread += 1;
            }
        }
    }
    assert!(unread < zip.len() / 5, "{unread} of {}", zip.len());
}

#[test]
fn no_file_is_there_twice() {
    let honest = bundle();
    for name in FILES {
        // Under a name of the same length first, since the writer refuses what is wanted here.
        let alias = format!("{}~", &name[..name.len() - 1]);
        let mut twice = honest.clone();
        let copy = twice.file(name).clone();
        twice.files.push((alias.clone(), copy));
        let mut zip = twice.zip_with(honest.manifest_json().as_bytes());
        require_finding(&zip, "no bundle has such a file");
        for at in 0..zip.len() - alias.len() {
            if zip[at..at + alias.len()] == *alias.as_bytes() {
                zip[at..at + alias.len()].copy_from_slice(name.as_bytes());
            }
        }
        require_finding(&zip, "the file is there twice");
    }
}

#[test]
fn what_is_too_large_is_not_read() {
    let honest = bundle();
    let (small, limit) = (1 << 20, 9 << 20);
    for (name, size) in [
        ("checkpoint.txt", small),
        ("proofs/first.tlog-proof", small),
        ("before.ndjson", limit),
        ("records.ndjson", limit),
    ] {
        for filling in [b"x", b"\n", b"\0"] {
            let mut large = honest.clone();
            *large.file(name) = filling.repeat(size);
            require_refused(&large.deflated(), name);
        }
    }
    let findings = require_refused(
        &{
            let mut many = honest.clone();
            *many.file("records.ndjson") = b"{}\n".repeat(100_000);
            many.zip()
        },
        "many findings",
    );
    assert_eq!(findings.len(), ledger_verifier::lines::MAX_FINDINGS);
    // More entries than any bundle has.
    let entries: Vec<_> = (0..70).map(|at| (format!("{at}"), Vec::new())).collect();
    require_finding(&pack(&entries), "more entries than any bundle");
}

/// Gives an error at some point of reading.
struct Failing {
    inner: Cursor<Vec<u8>>,
    reads: usize,
}

impl Read for Failing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reads = self.reads.checked_sub(1).ok_or_else(|| io::Error::other("the disk"))?;
        // Little at a time, so that every part of the reading meets the error once.
        let few = into.len().min(200);
        self.inner.read(&mut into[..few])
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn a_reader_that_fails_is_no_tampering() {
    let zip = bundle().deflated();
    let keys = [key(None).vkey.parse().unwrap()];
    let mut reads = 0;
    loop {
        match verify_bundle(Failing { inner: Cursor::new(zip.clone()), reads }, &keys) {
            Err(error) => assert_eq!(error.to_string(), "the disk"),
            Ok(report) => {
                assert_eq!(report.verdict(), Verdict::Verified);
                break;
            }
        }
        reads += 1;
    }
    assert!(reads > 30, "{reads}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0..4000_usize,
    ) {
        require_refused(&bytes, "any bytes");
        let mut zip = bundle().deflated();
        let end = (at + bytes.len()).min(zip.len());
        let at = at.min(end);
        bytes.truncate(end - at);
        zip[at..end].copy_from_slice(&bytes);
        verify(&zip);
    }
}
