//! Many records in one body: arrays and lines, packed or not, up to the limits.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::{Desk, NDJSON, results_of, said, signal, with};

const LINES: [(&str, &str); 1] = [("Content-Type", NDJSON)];
const GZIP: (&str, &str) = ("Content-Encoding", "gzip");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn statuses(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn one_object_is_answered_as_one_and_several_one_by_one_in_their_order() {
    let desk = Desk::open().await;
    desk.record(&signal(0)).await;
    let conflict = with(&signal(0), "ticker", "MSFT");
    let bad = with(&signal(9), "ticker", "");
    let all = [signal(1), signal(0), bad, signal(2), conflict, signal(1)];
    let expected = ["recorded", "duplicate", "refused", "recorded", "refused", "duplicate"];
    let results = desk.results(&all.each_ref().map(ToString::to_string)).await;
    assert_eq!(statuses(&results), expected);
    assert_eq!(results[0]["receipt"]["id"], 2);
    assert_eq!(results[1]["receipt"]["id"], 1);
    assert_eq!(results[3]["receipt"]["id"], 3);
    assert_eq!(
        (&results[2]["problem"]["code"], &results[2]["problem"]["field"]),
        (&json!("VAL-002"), &json!("ticker"))
    );
    assert_eq!(
        (&results[4]["problem"]["code"], &results[4]["problem"]["status"]),
        (&json!("IDP-001"), &json!(409))
    );
    assert_eq!(results[5]["receipt"], results[0]["receipt"]);

    // One in an array is one of several; the same as lines, with a blank one and a return.
    let results = desk.results(&[signal(1).to_string()]).await;
    assert_eq!(statuses(&results), ["duplicate"]);
    let lines = format!("{}\r\n\n  {}\n", signal(1), signal(3));
    for headers in [LINES.as_slice(), &[("Content-Type", "application/jsonl; charset=utf-8")], &[]]
    {
        let results = results_of(&desk.post(&lines, headers).await);
        assert_eq!((results.len(), &results[0]["receipt"]["id"]), (2, &json!(2)));
    }
    let results = results_of(&desk.post(signal(3).to_string(), &LINES).await);
    assert_eq!(statuses(&results), ["duplicate"], "one line is one of several, too");
    // Whatever the content type says, an object may be spread over lines.
    let pretty = serde_json::to_string_pretty(&signal(4)).unwrap();
    assert_eq!(desk.post(pretty, &[("Content-Type", "text/plain")]).await.status, 201);
    for empty in ["[]", " [ ]\n"] {
        assert_eq!(results_of(&desk.post(empty, &[]).await), Vec::<Value>::new());
    }
    assert_eq!(results_of(&desk.post("\n \n", &LINES).await), Vec::<Value>::new());
    assert_eq!(desk.close().await, 5);
}

#[tokio::test]
async fn a_malformed_line_is_refused_alone_and_a_malformed_array_as_a_whole() {
    let desk = Desk::open().await;
    let (good, next) = (signal(1).to_string(), signal(2).to_string());
    let bad = ["{", "[1]", "nonsense", "{} {}", "{\"a\":01}", "\"\"", "{\"signal_id\":"];
    for first in [true, false] {
        let mut lines: Vec<&str> = bad.to_vec();
        lines.insert(if first { bad.len() } else { 0 }, &good);
        lines.push(&next);
        let results = results_of(&desk.post(lines.join("\n"), &LINES).await);
        assert_eq!(results.len(), lines.len());
        for (line, result) in lines.iter().zip(&results) {
            if bad.contains(line) {
                assert_eq!(result["problem"]["code"], "VAL-001", "{line}: {result}");
            } else {
                assert_ne!(result["status"], "refused", "{line}: {result}");
            }
        }
    }
    let new = signal(3);
    for body in [
        format!("[{new}"),
        format!("[{new},]"),
        format!("[{new}] {new}"),
        format!("[{new} {new}]"),
        format!("{new} x"),
        format!("{new},{new}"),
        String::new(),
        " \n".to_owned(),
        "\u{feff}{}".to_owned(),
    ] {
        let answer = desk.post(&body, &[]).await;
        assert_eq!(said(&answer), (400, "VAL-001", ""), "{body}: {answer:?}");
    }
    let no_text = [b"[\"".as_slice(), b"\xff\"]"].concat();
    for headers in [LINES.as_slice(), &[]] {
        let answer = desk.post(&no_text, headers).await;
        assert_eq!(said(&answer), (400, "VAL-001", ""), "{answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().contains("UTF-8"));
    }
    let deep = "[".repeat(100_000);
    assert_eq!(said(&desk.post(&deep, &[]).await), (400, "VAL-001", ""));
    let answer = desk.post(format!("[{}]", "[".repeat(200) + &"]".repeat(200)), &[]).await;
    assert_eq!(results_of(&answer)[0]["problem"]["code"], "VAL-001");
    assert_eq!(desk.close().await, 2);
}

#[tokio::test]
async fn a_packed_body_is_read_and_a_broken_or_swollen_one_refused() {
    let desk = Desk::open().await;
    let lines = format!("{}\n{}", signal(1), signal(2));
    let packed = gzip(lines.as_bytes());
    let results = results_of(&desk.post(&packed, &[GZIP, LINES[0]]).await);
    assert_eq!(statuses(&results), ["recorded", "recorded"]);
    // Packed piece by piece, as some programs do; and named in another case.
    let (first, second) = lines.as_bytes().split_at(lines.len() / 2);
    let pieces = [gzip(first), gzip(second)].concat();
    let results = results_of(&desk.post(pieces, &[("Content-Encoding", "GZIP"), LINES[0]]).await);
    assert_eq!(statuses(&results), ["duplicate", "duplicate"]);
    let one = gzip(signal(3).to_string().as_bytes());
    assert_eq!(desk.post(one, &[GZIP]).await.status, 201);
    let plain = desk.post(signal(3).to_string(), &[("Content-Encoding", "identity")]).await;
    assert_eq!(plain.body["status"], "duplicate");

    let mut flipped = packed.clone();
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 1;
    let broken = [
        &packed[..packed.len() / 2],
        &packed[..packed.len() - 1],
        &packed[..5],
        &flipped,
        lines.as_bytes(),
        b"",
    ];
    for body in broken {
        let answer = desk.post(body, &[GZIP, LINES[0]]).await;
        assert_eq!(said(&answer), (400, "VAL-001", ""), "{} bytes: {answer:?}", body.len());
    }
    let answer = desk.post(&packed, &[("Content-Encoding", "br")]).await;
    assert_eq!(said(&answer), (400, "VAL-001", "Content-Encoding"));
    // Packed and not said so.
    assert_eq!(said(&desk.post(&packed, &LINES).await), (400, "VAL-001", ""));

    // A megabyte of blanks packs into a kilobyte; one byte too many of them, and a hundred times.
    let bomb = gzip(&vec![b' '; (32 << 20) + 1]);
    assert!(bomb.len() < 200_000);
    let megabyte = gzip(&vec![b' '; 1 << 20]);
    for body in [bomb, megabyte.repeat(3_000)] {
        let answer = desk.post(body, &[GZIP]).await;
        assert_eq!(said(&answer), (413, "LIM-001", ""), "{answer:?}");
    }
    assert_eq!(desk.close().await, 3);
}

#[tokio::test]
async fn a_body_has_a_largest_size() {
    let desk = Desk::open().await;
    // Exactly as large as may be; it is mostly blank.
    let mut body = signal(1).to_string().into_bytes();
    body.resize(32 << 20, b' ');
    assert_eq!(desk.post(&body, &[]).await.status, 201);
    body.push(b' ');
    let answer = desk.post(&body, &[]).await;
    assert_eq!(said(&answer), (413, "LIM-001", ""), "{answer:?}");
    // Two payloads that a row can hold go over what bodies of other routes may have.
    let large = |n| with(&signal(n), "payload_json", "x".repeat((1 << 20) - 2)).to_string();
    let results = desk.results(&[large(2), large(3)]).await;
    assert_eq!(statuses(&results), ["recorded", "recorded"]);
    assert_eq!(desk.close().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_records_pass_and_one_more_is_refused() {
    const MAX: u32 = 10_000;
    let desk = Desk::open().await;
    let record = |n: u32| {
        format!(
            r#"{{"signal_id":"{n}","source_module":"ema","ticker":"A","direction":"LONG","conviction":1,"timestamp":"2026-01-02T03:04:05Z"}}"#
        )
    };
    let mut lines = String::new();
    for n in 0..MAX {
        writeln!(lines, "{}", record(n)).unwrap();
    }
    let results = results_of(&desk.post(gzip(lines.as_bytes()), &[GZIP, LINES[0]]).await);
    assert_eq!(results.len(), MAX as usize);
    for (id, result) in (1..).zip(&results) {
        assert_eq!((&result["status"], &result["receipt"]["id"]), (&json!("recorded"), &json!(id)));
    }
    let more = format!("{lines}{}", record(MAX));
    let array = format!("[{}]", more.replace('\n', ","));
    let scalars = format!("[{}1]", "1,".repeat(1 << 20));
    for (body, headers) in [(&more, LINES.as_slice()), (&more, &[]), (&array, &[]), (&scalars, &[])]
    {
        let answer = desk.post(body, headers).await;
        assert_eq!(said(&answer), (400, "VAL-001", ""), "{:.300}", format!("{answer:?}"));
        assert!(answer.body["detail"].as_str().unwrap().contains("10000"));
    }
    assert_eq!(desk.close().await, MAX as usize);
}
