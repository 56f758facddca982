//! However much the rows hold: a page, and a story, come to an end.

use audit_ledger::store::checks::{CheckRecord, insert_checks};
use ledger_verifier::Value as Cell;
use serde_json::{Value, json};

use crate::common::builders::{debate, kill_switch, order, signal};
use crate::common::soon;
use crate::{Desk, debate as debate_body};

/// Bytes of what is long in a row.
const LONG: usize = 250_000;
/// So many rows hold more than a page does.
const ROWS: u32 = 40;

fn document(n: u32, bytes: usize) -> Cell<'static> {
    Cell::Document(format!(r#"{{"n":{n},"x":"{}"}}"#, "x".repeat(bytes)).into())
}

fn check(n: u32) -> CheckRecord {
    CheckRecord {
        run_id: audit_ledger::clock::Clock::system().new_id(),
        chain: "signals".to_owned(),
        kind: "full",
        range: Some((1, 1)),
        expected_count: 1,
        actual_count: 1,
        finished: true,
        valid: Some(false),
        findings_count: 100,
        findings: (0..100).map(|at| json!({ "n": n, "at": at, "x": "x".repeat(2_500) })).collect(),
        duration_ms: 7,
    }
}

/// How many items each page has, and every id.
async fn follow(desk: &Desk, list: &str) -> (Vec<usize>, Vec<i64>) {
    let (mut pages, mut ids) = (Vec::new(), Vec::new());
    let mut next = format!("{list}?limit=1000");
    loop {
        let page = desk.read(&next).await;
        let bytes = page.to_string().len();
        assert!(bytes < 12 << 20, "{list}: a page of {bytes} bytes");
        let items = page["items"].as_array().unwrap();
        pages.push(items.len());
        let id = |item: &Value| item.get("id").or_else(|| item.get("signal_row_id"))?.as_i64();
        ids.extend(items.iter().map(|item| id(item).unwrap()));
        let Some(cursor) = page["next_cursor"].as_str() else { return (pages, ids) };
        next = format!("{list}?limit=1000&cursor={cursor}");
    }
}

#[tokio::test]
async fn a_page_ends_where_it_would_grow_too_large_and_the_next_goes_on() {
    let desk = Desk::open().await;
    let appender = desk.ledger.appender();
    for n in 1..=ROWS {
        let mut long = signal(n);
        long.raw_payload = format!(r#"{{"n":{n},"x":"{}"}}"#, "x".repeat(LONG));
        appender.append(long, soon()).await.unwrap();
        let mut event = kill_switch(n, None);
        event.values[6] = document(n, LONG);
        appender.append(event, soon()).await.unwrap();
        insert_checks(&desk.ledger.app(), &[check(n)]).await.unwrap();
    }
    let lists = ["signals", "order_events", "trades", "kill_switch_events", "integrity/checks"];
    for list in lists {
        let (pages, ids) = follow(&desk, &format!("/v1/{list}")).await;
        assert!(pages.len() == 2 && pages[0] > 30, "{list}: {pages:?}");
        assert!(ids.iter().copied().eq((1..=i64::from(ROWS)).rev()), "{list}: {ids:?}");
    }
    // The limit in rows counts as before.
    let one = desk.read("/v1/signals?limit=1").await;
    assert_eq!((one["items"].as_array().unwrap().len(), one["next_cursor"].is_null()), (1, false));
    drop(appender);
    assert_eq!(desk.close().await, 2 * usize::try_from(ROWS).unwrap());
}

#[tokio::test]
async fn a_story_that_is_too_long_says_so_and_where_the_rest_is() {
    let desk = Desk::open().await;
    let appender = desk.ledger.appender();
    let signal = signal(1);
    let id = signal.correlation_id;
    appender.append(signal, soon()).await.unwrap();
    for n in 1..=ROWS {
        let mut debate = debate(n, id);
        debate.values[2] = Cell::Text(format!("model-{n}").into());
        debate.values[3] = document(n, 1_000_000);
        appender.append(debate, soon()).await.unwrap();
    }
    appender.append(order(1, id), soon()).await.unwrap();
    let story = desk.read(&format!("/v1/trades/{id}")).await;
    assert_eq!(story["truncated"], true);
    assert_eq!(story["rest"], json!(["/v1/ai_debates", "/v1/order_execution"]));
    let steps = story["steps"].as_array().unwrap();
    let ids = steps[1..].iter().map(|step| step["row"]["id"].as_i64().unwrap());
    let count = i64::try_from(steps.len() - 1).unwrap();
    assert!(steps[0]["row"]["raw_payload_text"].is_string() && (30..38).contains(&count));
    assert!(ids.eq(1..=count), "the first rows of the ledger");
    let trade = &story["trade"];
    assert_eq!((&trade["truncated"], &trade["other_models"]), (&json!(true), &json!([])));
    assert_eq!(trade["models_answered"], ROWS);
    assert_eq!(trade["order_count"], 1);

    // One that is not.
    let id = desk.signal(2).await;
    desk.record("ai_debates", &debate_body(&id)).await;
    let story = desk.read(&format!("/v1/trades/{id}")).await;
    assert_eq!((&story["truncated"], &story["rest"]), (&json!(false), &json!([])));
    assert_eq!(story["trade"]["truncated"], false);
    assert_eq!(story["steps"].as_array().unwrap().len(), 2);
    drop(appender);
    assert_eq!(desk.close().await, 4 + usize::try_from(ROWS).unwrap());
}
