//! An RFC 3161 timestamp authority: `tsa+https://[user:password@]host/path`.
//!
//! It keeps nothing. It signs that the note's bytes existed at a time, by its own clock, so that
//! nobody who has the log's key can make up an older checkpoint later. The whole `TimeStampResp`
//! is the receipt. What is checked here is that it was granted, for this note and this request;
//! the signature is not. With the note in `checkpoint.note` and the receipt in `checkpoint.tsr`:
//!
//! ```text
//! openssl ts -verify -data checkpoint.note -in checkpoint.tsr -CAfile tsa-ca.pem
//! ```
//!
//! An authority asks for money or patience, so it is given the newest checkpoint now and then.

use sha2::{Digest, Sha256};

use super::AnchorError;
use super::endpoint::Endpoint;

/// The largest response that is read. It holds the authority's certificates, of a few KiB each.
const MAX_RESPONSE_BYTES: usize = 128 << 10;
/// How much of an authority's own words is repeated.
const MAX_WORDS: usize = 200;

/// The random part of a request, so that an older response does not answer it.
pub(crate) type Nonce = [u8; 8];

/// A server that signs times.
pub struct Authority {
    endpoint: Endpoint,
}

impl Authority {
    /// The anchor and its name.
    pub(super) fn parse(url: &str) -> Result<(String, Self), String> {
        let endpoint = Endpoint::parse(url.strip_prefix("tsa+").unwrap_or(url))?;
        Ok((format!("tsa+{}", endpoint.url()), Self { endpoint }))
    }

    /// The response over the note's bytes, in DER.
    pub(super) async fn stamp(&self, note: &str, nonce: Nonce) -> Result<Vec<u8>, AnchorError> {
        let (imprint, nonce) = (imprint(note.as_bytes()), positive(nonce));
        let request = request(&imprint, nonce);
        let content_type = "application/timestamp-query";
        let answer = self.endpoint.post("", content_type, request, MAX_RESPONSE_BYTES).await?;
        if answer.status.as_u16() != 200 {
            return Err(answer.unexpected());
        }
        require_granted(&answer.body, &imprint, nonce).map_err(AnchorError::Refused)?;
        Ok(answer.body)
    }
}

// Tags of DER (ITU-T X.690), and the object identifiers of what is read.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
/// `id-signedData`, 1.2.840.113549.1.7.2 (RFC 5652 section 5.1).
const SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
/// `id-ct-TSTInfo`, 1.2.840.113549.1.9.16.1.4 (RFC 3161 section 2.4.2).
const TST_INFO: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04";
/// `id-sha256`, 2.16.840.1.101.3.4.2.1, as an `AlgorithmIdentifier` without its outer header.
const SHA_256: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";

/// A `MessageImprint` (RFC 3161 section 2.4.1) of SHA-256, in DER.
pub(crate) fn imprint(message: &[u8]) -> Vec<u8> {
    let algorithm = [SHA_256, &[0x05, 0x00]].concat();
    let hash = Sha256::digest(message);
    der(SEQUENCE, &[der(SEQUENCE, &algorithm), der(OCTET_STRING, &hash)].concat())
}

/// An integer that takes all of its eight bytes, and is positive: then it has one spelling.
fn positive(mut nonce: Nonce) -> Nonce {
    nonce[0] = nonce[0] & 0x3f | 0x40;
    nonce
}

/// A `TimeStampReq` (RFC 3161 section 2.4.1): version 1, no policy, and the certificate wanted.
fn request(imprint: &[u8], nonce: Nonce) -> Vec<u8> {
    let (version, wanted) = (der(INTEGER, &[1]), der(BOOLEAN, &[0xff]));
    der(SEQUENCE, &[&version, imprint, &der(INTEGER, &nonce), &wanted].concat())
}

/// One value of fewer than 128 bytes, which have a length of one byte.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 0x80);
    [&[tag, length.expect("nothing longer is asked")], content].concat()
}

/// Checks that a `TimeStampResp` was granted for this imprint and nonce.
///
/// # Errors
/// What it says instead, for people.
pub(crate) fn require_granted(response: &[u8], imprint: &[u8], nonce: Nonce) -> Result<(), String> {
    let malformed = "it answered what is no RFC 3161 response";
    let mut response = Der(response).enter(SEQUENCE).ok_or(malformed)?;
    // PKIStatusInfo (RFC 3161 section 2.4.2): 0 is granted, 1 granted with changes.
    let mut status = response.enter(SEQUENCE).ok_or(malformed)?;
    let code = status.read(INTEGER).ok_or(malformed)?;
    if !matches!(code, [0 | 1]) {
        let words = status.enter(SEQUENCE).and_then(|mut words| words.read(UTF8_STRING));
        let words = String::from_utf8_lossy(words.unwrap_or_default());
        let words: String = words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
        return Err(format!("it refused, with status {}: {words:?}", hex::encode(code)));
    }
    let mut info = tst_info(response).ok_or(malformed)?;
    if info.read_whole(SEQUENCE) != Some(imprint) {
        return Err("it signed another message".to_owned());
    }
    // serialNumber and genTime are the authority's; accuracy and ordering may be absent.
    info.read(INTEGER).ok_or(malformed)?;
    info.any().ok_or(malformed)?;
    while let Some((tag, content)) = info.any() {
        if tag == INTEGER {
            let is_ours = content == nonce;
            return if is_ours { Ok(()) } else { Err("it answered another request".to_owned()) };
        }
    }
    Err("it answered without the nonce of the request".to_owned())
}

/// What a `TimeStampToken` signs, from its imprint on: `ContentInfo` and `SignedData` of RFC 5652
/// around the `TSTInfo` of RFC 3161 section 2.4.2.
fn tst_info(mut response: Der<'_>) -> Option<Der<'_>> {
    let mut content_info = response.enter(SEQUENCE)?;
    content_info.read(OID).filter(|oid| *oid == SIGNED_DATA)?;
    let mut signed_data = content_info.enter(EXPLICIT_0)?.enter(SEQUENCE)?;
    signed_data.read(INTEGER)?;
    signed_data.read(SET)?;
    let mut content = signed_data.enter(SEQUENCE)?;
    content.read(OID).filter(|oid| *oid == TST_INFO)?;
    let mut info = content.enter(EXPLICIT_0)?.enter(OCTET_STRING)?.enter(SEQUENCE)?;
    info.read(INTEGER).filter(|version| *version == [1])?;
    info.read(OID)?;
    Some(info)
}

/// A reader of DER values that follow each other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next value, of whatever kind.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(length);
        if length >= 0x80 {
            // The long form (X.690 section 8.1.3.5). Four bytes are more than is read of anyone.
            let (bytes, after) = rest.split_at_checked(length - 0x80)?;
            if !(1..=4).contains(&bytes.len()) {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, if it has this tag.
    fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        (self.0.first() == Some(&tag)).then(|| self.any())?.map(|(_, content)| content)
    }

    /// The next value with its header, if it has this tag.
    fn read_whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let whole = self.0;
        self.read(tag)?;
        Some(&whole[..whole.len() - self.0.len()])
    }

    /// What the next value consists of, if it has this tag.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        self.read(tag).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = [0x41, 2, 3, 4, 5, 6, 7, 8];

    fn long(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], content].concat()
    }

    /// A response without what is not read: algorithms, certificates and the signature.
    fn response(status: &[u8], imprint: &[u8], nonce: Option<&[u8]>) -> Vec<u8> {
        let nonce = nonce.map(|nonce| der(INTEGER, nonce)).unwrap_or_default();
        let (version, serial) = (der(INTEGER, &[1]), der(INTEGER, &[9]));
        let (policy, time) = (der(OID, &[0x2a]), der(0x18, b"20260101000000Z"));
        let accuracy = der(SEQUENCE, &der(INTEGER, &[1]));
        let info = [&version, &policy, imprint, &serial, &time, &accuracy, &nonce].concat();
        let info = der(EXPLICIT_0, &der(OCTET_STRING, &der(SEQUENCE, &info)));
        let content = long(SEQUENCE, &[der(OID, TST_INFO), info].concat());
        let signed = [der(INTEGER, &[3]), der(SET, &[]), content].concat();
        let signed = long(EXPLICIT_0, &long(SEQUENCE, &signed));
        let token = long(SEQUENCE, &[der(OID, SIGNED_DATA), signed].concat());
        long(SEQUENCE, &[der(SEQUENCE, &der(INTEGER, status)), token].concat())
    }

    #[test]
    fn a_request_is_the_one_that_openssl_makes() {
        // openssl ts -query -data FILE -sha256 -cert, but for its nonce of nine bytes.
        let expected = "3043020101\
            3031300d060960864801650304020105000420\
            edb465624291e4053c6c5ea4b7eb320dec773e10a57d26b95dcf0564f8e310f8\
            02084102030405060708\
            0101ff";
        let request = request(&imprint(b"note"), positive([1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(hex::encode(request), expected);
    }

    #[test]
    fn only_what_was_granted_for_this_request_is_taken() {
        let (ours, other) = (imprint(b"note"), imprint(b"another"));
        let check = |response: &[u8]| require_granted(response, &ours, NONCE);
        assert_eq!(check(&response(&[0], &ours, Some(&NONCE))), Ok(()));
        assert_eq!(check(&response(&[1], &ours, Some(&NONCE))), Ok(()));
        for (response, what) in [
            (response(&[0], &other, Some(&NONCE)), "another message"),
            (response(&[0], &ours, Some(&[0x41, 2, 3, 4, 5, 6, 7, 9])), "another request"),
            (response(&[0], &ours, None), "without the nonce"),
            (response(&[2], &ours, Some(&NONCE)), "status 02"),
            (b"<html>".to_vec(), "no RFC 3161 response"),
        ] {
            let error = check(&response).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        let words = [der(INTEGER, &[2]), der(SEQUENCE, &der(UTF8_STRING, b"no\n money"))].concat();
        let error = check(&der(SEQUENCE, &der(SEQUENCE, &words))).unwrap_err();
        assert_eq!(error, "it refused, with status 02: \"no money\"");
    }

    #[test]
    fn no_part_of_a_response_is_taken_and_none_stops_the_service() {
        let ours = imprint(b"note");
        let whole = response(&[0], &ours, Some(&NONCE));
        for cut in 0..whole.len() {
            assert!(require_granted(&whole[..cut], &ours, NONCE).is_err(), "cut at {cut}");
            let mut changed = whole.clone();
            for byte in [0, 0x7f, 0x80, 0x84, 0x88, 0xff] {
                changed[cut] = byte;
                // Some changes are to what is not read.
                let _ = require_granted(&changed, &ours, NONCE);
            }
        }
    }
}
