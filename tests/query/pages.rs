//! Pages while rows are appended: each row once, none left out.

use ledger_verifier::Value;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;

use crate::common::soon;
use crate::naive::Condition;
use crate::rows::{ROWS, ledger_with_variety, records};
use crate::{Desk, naive, query};

#[tokio::test]
async fn pages_give_every_row_once_while_rows_are_appended() {
    let desk = Desk::open(ledger_with_variety().await).await;
    let chain = &SIGNAL_AUDIT_LEDGER;
    let appender = desk.ledger.appender();
    let mut next = ROWS + 1;
    let word = |text: &str| Value::Text(text.to_owned().into());
    let filters = [
        vec![],
        vec![Condition::new(chain, "source_module", word("ema"))],
        vec![
            Condition::new(chain, "record_type", word("SIGNAL")),
            Condition::new(chain, "min_conviction", Value::Decimal(300_000)),
        ],
    ];
    for conditions in filters {
        for ascending in [true, false] {
            let before = naive::ids(chain, &desk.rows(chain).await, &conditions);
            let order = if ascending { "asc" } else { "desc" };
            let asked = format!("{}&order={order}", query(&conditions));
            let mut pages = 0;
            let found = desk
                .follow(chain, &asked, 7, async || {
                    pages += 1;
                    // For a while; else the oldest first would never come to an end.
                    if pages <= 6 {
                        for row in records(next) {
                            appender.append(row, soon()).await.unwrap();
                        }
                        next += 1;
                    }
                })
                .await;
            let after = naive::ids(chain, &desk.rows(chain).await, &conditions);
            assert!(after.len() > before.len() && pages > 3, "{asked}");
            if ascending {
                assert_eq!(found, after, "what came meanwhile is behind the rest: {asked}");
            } else {
                let mut newest_first = before;
                newest_first.reverse();
                assert_eq!(found, newest_first, "{asked}");
            }
        }
    }
    drop(appender);
    desk.close().await;
}

#[tokio::test]
async fn a_cursor_goes_on_whatever_is_asked_for_with_it() {
    let desk = Desk::open(ledger_with_variety().await).await;
    let chain = &SIGNAL_AUDIT_LEDGER;
    let rows = desk.rows(chain).await;
    let page = desk.read("/v1/signal_audit_ledger?limit=20&order=asc").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let first_ids = |page: &serde_json::Value| -> Vec<i64> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(first_ids(&page), (1..=20).collect::<Vec<_>>());
    // It is a place in the chain: another filter or order goes on from there.
    let ema = [Condition::new(chain, "source_module", Value::Text("ema".into()))];
    let of_ema = naive::ids(chain, &rows, &ema);
    let path = format!("/v1/signal_audit_ledger?source_module=ema&order=asc&cursor={cursor}");
    let expected: Vec<_> = of_ema.iter().copied().filter(|id| *id > 20).collect();
    assert_eq!(first_ids(&desk.read(&path).await), expected);
    let path = format!("/v1/signal_audit_ledger?source_module=ema&cursor={cursor}");
    let expected: Vec<_> = of_ema.iter().rev().copied().filter(|id| *id < 20).collect();
    assert_eq!(first_ids(&desk.read(&path).await), expected);
    desk.close().await;
}
