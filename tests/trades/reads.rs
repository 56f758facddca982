//! Rows as everybody with a key reads them: pages that stay right, one row, and what somebody has
//! tampered with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::common::{fetch, run};
use crate::{Desk, debate, kill_switch, order, with};

fn ids(page: &Value) -> Vec<i64> {
    let id = |item: &Value| item.get("id").or_else(|| item.get("signal_row_id"))?.as_i64();
    page["items"].as_array().unwrap().iter().map(|item| id(item).unwrap()).collect()
}

/// Follows a list to its end, while `meanwhile` appends; every id, in the order of the pages.
async fn follow(desk: &Desk, list: &str, limit: usize, meanwhile: impl AsyncFn()) -> Vec<i64> {
    let mut next = format!("{list}?limit={limit}");
    let mut all = Vec::new();
    loop {
        let page = desk.ask(&next).await;
        assert_eq!(page.status, 200, "{page:?}");
        let found = ids(&page.body);
        assert!(found.len() <= limit);
        all.extend(found);
        meanwhile().await;
        let Some(cursor) = page.body["next_cursor"].as_str() else {
            assert!(!page.headers.contains_key("link"));
            return all;
        };
        next = format!("{list}?limit={limit}&cursor={cursor}");
        assert_eq!(page.headers["link"], format!("<{next}>; rel=\"next\""));
    }
}

#[tokio::test]
async fn pages_give_every_row_once_the_newest_first_while_rows_are_appended() {
    const ROWS: u32 = 5;
    let desk = Desk::open().await;
    let mut expected = 0;
    for n in 0..ROWS {
        let id = desk.signal(n + 1).await;
        desk.record("ai_debates", &debate(&id)).await;
        desk.record("order_execution", &order(&id)).await;
        desk.record("order_events", &kill_switch()).await;
        desk.server.deliver(format!("{{ {n}").as_bytes()).await;
        expected += 5;
    }
    let all_chains =
        ["signals", "ai_debates", "order_execution", "order_events", "quarantined_deliveries"];
    let lists = all_chains.iter().map(|chain| format!("/v1/{chain}"));
    let lists = lists.chain(["/v1/trades".to_owned(), "/v1/kill_switch_events".to_owned()]);
    let more = std::cell::Cell::new(1_000);
    for list in lists {
        for limit in [2, 1000] {
            let mut superuser = desk.ledger.connect_superuser().await;
            let table = match list.strip_prefix("/v1/").unwrap() {
                "trades" => "signals",
                "kill_switch_events" => "order_events",
                chain => chain,
            };
            let last: i64 = fetch(&mut superuser, &format!("SELECT max(id) FROM {table}")).await;
            let before = more.get();
            let append = async || {
                if more.get() == before + 2 {
                    return;
                }
                more.set(more.get() + 1);
                let id = desk.signal(more.get()).await;
                desk.record("ai_debates", &debate(&id)).await;
                desk.record("order_execution", &order(&id)).await;
                desk.record("order_events", &kill_switch()).await;
                desk.server.deliver(format!("{{ {}", more.get()).as_bytes()).await;
            };
            let found = follow(&desk, &list, limit, append).await;
            expected += 5 * usize::try_from(more.get() - before).unwrap();
            assert!(found.iter().copied().eq((1..=last).rev()), "{list} {limit}: {found:?}");
        }
    }
    assert_eq!(desk.close().await, expected);
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_read_is_told() {
    let desk = Desk::open().await;
    desk.signal(1).await;
    for path in [
        "/v1/nonsense",
        "/v1/Signals",
        "/v1/ledger_log",
        "/v1/signal_audit_ledger/1",
        "/v1/nonsense/1",
        "/v1/signals/2",
        "/v1/signals/0",
        "/v1/signals/-1",
        "/v1/signals/9223372036854775807",
        "/v1/signals/9223372036854775808",
        "/v1/signals/one",
        "/v1/signals/%ff",
        "/v1/%ff",
        "/v1/ai_debates/1",
        "/v1/trades/01939f3e-7a00-7000-8000-000000000001",
        "/v1/trades/1",
        "/v1/kill_switch_events/1",
    ] {
        let answer = desk.ask(path).await;
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("NTF-001")), "{path}");
    }
    let of_signals = desk.read("/v1/signals").await;
    assert_eq!(of_signals["next_cursor"], Value::Null);
    let lists = ["/v1/signals", "/v1/ai_debates", "/v1/trades", "/v1/kill_switch_events"];
    for list in lists {
        for (query, named) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=-1", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=nonsense", "cursor"),
            // That of another list.
            ("cursor=c2VjdXJpdHlfZXZlbnRzOjE", "cursor"),
            ("nonsense=1", "nonsense"),
            ("symbol=%ff", "symbol"),
        ] {
            let answer = desk.ask(&format!("{list}?{query}")).await;
            let said = (answer.status, &answer.body["code"], &answer.body["field"]);
            assert_eq!(said, (400, &json!("VAL-003"), &json!(named)), "{list}?{query}");
        }
    }
    let answer = desk.post("order_events?nonsense=1", b"{}").await;
    let said = (answer.status, &answer.body["code"], &answer.body["field"]);
    assert_eq!(said, (400, &json!("VAL-003"), &json!("nonsense")), "also where a row is written");
    // A name that somebody made up is not repeated whole.
    let long = with(&kill_switch(), &"x".repeat(100_000), 1);
    let answer = desk.post("order_events", long.to_string().as_bytes()).await;
    assert_eq!((answer.status, &answer.body["field"]), (422, &json!("x".repeat(64))));
    assert!(answer.body.to_string().len() < 1_000);
    let answer = desk.ask("/v1/signals/1?nonsense=1").await;
    assert_eq!((answer.status, &answer.body["field"]), (400, &json!("nonsense")));
    for (method, path) in
        [("POST", "/v1/signals"), ("DELETE", "/v1/ai_debates"), ("PUT", "/v1/trades")]
    {
        let headers = [("Authorization", desk.key.as_str())];
        let answer = desk.server.request(method, path, b"{}", &headers).await;
        assert_eq!((answer.status, &answer.body["code"]), (405, &json!("MTH-001")), "{path}");
    }
    assert_eq!(desk.close().await, 1);
}

#[tokio::test]
async fn a_quarantined_body_is_shown_in_base64() {
    let desk = Desk::open().await;
    let bodies: [&[u8]; 3] = [b"", b"\xff\x00\xfe no JSON", b"{\"price\":NaN}"];
    for body in bodies {
        assert_eq!(desk.server.deliver(body).await.status, 422);
    }
    for (id, body) in (1..).zip(bodies) {
        let row = &desk.read(&format!("/v1/quarantined_deliveries/{id}")).await["row"];
        assert_eq!(row["body_base64"], STANDARD.encode(body));
        assert!(row.get("body").is_none());
    }
    assert_eq!(desk.close().await, 3);
}

#[tokio::test]
async fn a_row_that_somebody_tampered_with_is_shown_as_it_is() {
    let desk = Desk::open().await;
    for n in 1..=4 {
        desk.signal(n).await;
    }
    desk.server.deliver(b"{").await;
    let mut superuser = desk.ledger.disarmed().await;
    run(
        &mut superuser,
        "UPDATE signals SET price = 'NaN', quantity = -1 WHERE id = 1;
         UPDATE signals SET source_ip = '10.0.0.0/8', received_at = 'infinity' WHERE id = 2;
         UPDATE signals SET row_hash = NULL, prev_hash = NULL, created_at = NULL WHERE id = 3;
         UPDATE quarantined_deliveries SET body = NULL, source = NULL WHERE id = 1;
         INSERT INTO ledger_log SELECT 100, chain, id, row_hash FROM ledger_log
             WHERE chain = 'signals' AND id = 4",
    )
    .await;
    drop(superuser);
    let page = desk.read("/v1/signals").await;
    assert_eq!(ids(&page), [4, 3, 2, 1]);
    for (id, member, shown) in [
        (1, "price", json!("unreadable: ")),
        (1, "quantity", json!("-1.0000000000")),
        (2, "source_ip", json!("unreadable: ")),
        (2, "received_at", json!("unreadable: ")),
        (3, "created_at", Value::Null),
        (3, "row_hash", json!("")),
        (4, "symbol", json!("BTCUSD")),
    ] {
        let read = desk.read(&format!("/v1/signals/{id}")).await;
        let row = &read["row"];
        if shown == "unreadable: " {
            let text = row[member].as_str().unwrap();
            assert!(text.starts_with(&format!("unreadable: {member} ")), "{row}");
        } else {
            assert_eq!(row[member], shown, "{member}: {row}");
        }
        assert_eq!(&page["items"][usize::try_from(4 - id).unwrap()], row);
    }
    let row = &desk.read("/v1/quarantined_deliveries/1").await["row"];
    assert_eq!((&row["body_base64"], &row["source"]), (&Value::Null, &Value::Null));
    desk.close_tampered().await;
}
