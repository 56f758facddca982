//! What became of a signal: a further record that follows it, and repeats it.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use crate::{Desk, NDJSON, append, outcome, results_of, said, signal, with, without};

/// `acted_upon`, `execution_id`, the outcome's id and payload, for each signal.
async fn current(desk: &Desk) -> Vec<(bool, Option<String>, Option<i64>, Option<String>)> {
    let sql = "SELECT acted_upon, execution_id::text, outcome_id, outcome_payload_json_text
               FROM public.vw_signal_current ORDER BY id";
    let mut app = desk.ledger.connect_app().await;
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut app).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

#[tokio::test]
async fn an_outcome_repeats_its_signal_and_is_the_latest_word_on_it() {
    let desk = Desk::open().await;
    desk.record(&signal(1)).await;
    desk.record(&with(&signal(2), "execution_id", "own")).await;
    desk.record(&with(&signal(1), "source_module", "social")).await;
    let none = (false, None, None, None);
    let own = (false, Some("own".to_owned()), None, None);
    assert_eq!(current(&desk).await, [none.clone(), own.clone(), none.clone()]);

    let receipt = desk.record(&outcome(1)).await;
    let row = desk.row(&receipt["id"]).await;
    for (member, kept) in [
        ("record_type", json!("OUTCOME")),
        ("ticker", json!("AAPL")),
        ("direction", json!("LONG")),
        ("conviction", json!("82.5000")),
        ("confidence", Value::Null),
        ("price", Value::Null),
        ("signal_type", Value::Null),
        ("acted_upon", json!(true)),
        ("execution_id", json!("x-1")),
        ("payload_json_text", json!("{}")),
        ("latency_ms", json!(0)),
    ] {
        assert_eq!(row[member], kept, "{member}");
    }
    assert_eq!(row["timestamp"], row["received_at"], "it said nothing");
    let yes = (true, Some("x-1".to_owned()), Some(4), Some("{}".to_owned()));
    assert_eq!(current(&desk).await, [yes, own, none]);

    let over = with(&without(&outcome(1), "execution_id"), "acted_upon", false);
    desk.record(&with(&over, "payload_json", json!({"why": "stopped"}))).await;
    desk.record(&outcome(2)).await;
    desk.record(&with(&outcome(1), "source_module", "social")).await;
    // The first one again changes nothing.
    desk.duplicate(&outcome(1)).await;
    let found = current(&desk).await;
    assert_eq!(found[0], (false, None, Some(5), Some("{\"why\":\"stopped\"}".to_owned())));
    assert_eq!(found[1], (true, Some("x-2".to_owned()), Some(6), Some("{}".to_owned())));
    assert_eq!(found[2], (true, Some("x-1".to_owned()), Some(7), Some("{}".to_owned())));
    assert_eq!(desk.close().await, 7);
}

#[tokio::test]
async fn an_outcome_follows_its_signal_in_a_body_and_never_comes_before_it() {
    let desk = Desk::open().await;
    let unknown = said(&desk.send(&outcome(1)).await).1.to_owned();
    assert_eq!(unknown, "AUD-008");
    let answer = desk.send(&outcome(1)).await;
    assert_eq!(said(&answer), (422, "AUD-008", "signal_id"), "{answer:?}");

    // Before its signal, after it, of another producer's, of one that is refused.
    let of_other = with(&outcome(1), "source_module", "social");
    let bad = with(&signal(2), "conviction", "101");
    let all = [outcome(1), signal(1), outcome(1), of_other, bad, outcome(2), outcome(1)];
    let lines: Vec<_> = all.iter().map(ToString::to_string).collect();
    let results = results_of(&desk.post(lines.join("\n"), &[("Content-Type", NDJSON)]).await);
    let said: Vec<_> = results
        .iter()
        .map(|result| result["problem"]["code"].as_str().or(result["status"].as_str()).unwrap())
        .collect();
    let expected =
        ["AUD-008", "recorded", "recorded", "AUD-008", "VAL-002", "AUD-008", "duplicate"];
    assert_eq!(said, expected);
    assert_eq!(results[6]["receipt"], results[2]["receipt"]);

    // A signal that is there already, again or with other content, serves the outcomes behind it.
    let conflict = with(&signal(1), "ticker", "MSFT");
    let fill = with(&outcome(1), "price", "1");
    let results = desk.results(&[conflict, fill, signal(1)].each_ref().map(Value::to_string)).await;
    assert_eq!(results[0]["problem"]["code"], "IDP-001");
    assert_eq!(results[1]["status"], "recorded");
    assert_eq!(desk.row(&results[1]["receipt"]["id"]).await["ticker"], "AAPL");

    let mut app = desk.ledger.connect_app().await;
    let error = append(&mut app, &outcome(2).to_string()).await.unwrap_err();
    let error = error.as_database_error().unwrap();
    assert_eq!(error.code().unwrap(), "AU008");
    assert!(error.message().starts_with("AUD-008: signal_id "), "{error}");
    drop(app);
    assert_eq!(desk.close().await, 3);
}
