//! Whole rows deleted, inserted, swapped and re-hashed behind the guards' backs.

use std::fmt::Write;

use audit_ledger::chains::IN_LEDGER;
use ledger_verifier::Chain;
use ledger_verifier::chain::{QUARANTINED_DELIVERIES, SIGNALS};

use crate::CHAINS;
use crate::checks::{Spelt, check, check_in_sql, findings};
use crate::columns::{ROWS, Unguarded, orphans, spelt};
use crate::common::run;

/// The hash of a row `t` of this chain, in SQL.
fn hash_of(chain: &Chain) -> String {
    let arguments: Vec<_> =
        chain.columns.iter().map(|column| format!("t.{}", column.stored_name())).collect();
    format!("public.{}_hash(t.prev_hash, {})", chain.name, arguments.join(", "))
}

/// Gives these rows the hash of what they hold now.
fn rehash(chain: &Chain, condition: &str) -> String {
    format!(
        "UPDATE public.{} AS t SET row_hash = {} WHERE {condition};",
        chain.name,
        hash_of(chain)
    )
}

/// Links and hashes every row from this one on, as somebody would who covers a change.
fn rehash_from(chain: &Chain, from: i64) -> String {
    let mut sql = rehash(chain, &format!("id = {from}"));
    for id in from + 1..=i64::from(ROWS) {
        let link = format!(
            "UPDATE public.{0} SET prev_hash =
                 (SELECT row_hash FROM public.{0} WHERE id = {1}) WHERE id = {id};",
            chain.name,
            id - 1
        );
        sql += &link;
        sql += &rehash(chain, &format!("id = {id}"));
    }
    sql
}

/// Makes the log agree with what the chain holds now.
fn adapt_log(chain: &Chain) -> String {
    format!(
        "UPDATE public.ledger_log AS l SET row_hash = t.row_hash
         FROM public.{0} AS t WHERE l.chain = '{0}' AND l.id = t.id;",
        chain.name
    )
}

/// Changes what a row says.
fn change(chain: &Chain, condition: &str) -> String {
    let set = match chain.name {
        "signals" => "price = price + 1",
        "ai_debates" => "elapsed_ms = elapsed_ms + 1",
        "order_execution" => "quantity = quantity + 1",
        "order_events" => "exchange_error_code = 'none'",
        "signal_audit_ledger" => "acted_upon = NOT acted_upon",
        "security_events" => "subject = 'something else'",
        _ => "body = body || '\\x20'",
    };
    format!("UPDATE public.{} SET {set} WHERE {condition};", chain.name)
}

fn all_spelt(chain: &Chain, findings: &[(i64, &'static str)]) -> Vec<Spelt> {
    findings.iter().map(|(id, kind)| spelt(chain, *id, kind)).collect()
}

#[tokio::test]
async fn deleted_rows() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        for (condition, deleted) in [
            ("id = 1", 1..=1),
            ("id = 3", 3..=3),
            ("id = 5", 5..=5),
            ("id IN (2, 3)", 2..=3),
            ("true", 1..=5),
        ] {
            let delete = format!("DELETE FROM public.{} WHERE {condition}", chain.name);
            let in_sql = Some((*deleted.start(), "log_mismatch"));
            let mut expected = vec![spelt(chain, *deleted.start(), "gap")];
            for id in deleted {
                expected.push(spelt(chain, id, "log_mismatch"));
                expected.extend(orphans(chain, id));
            }
            unguarded.assert_found(&delete, expected, chain, in_sql).await;
        }
        let truncate = format!("TRUNCATE public.{}", chain.name);
        run(&mut unguarded.superuser, &truncate).await;
        let lines = check_in_sql(&mut unguarded.superuser).await;
        let line = lines.iter().find(|line| line.checked_chain == chain.name).unwrap();
        assert_eq!((line.rows_checked, line.valid), (0, Some(false)), "no rows are not right");
        unguarded.restore().await;
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn deleted_entries_of_the_log() {
    let mut unguarded = Unguarded::new(false).await;
    for (place, chain) in (0..).zip(IN_LEDGER) {
        // The leaf behind the missing one belongs to the next chain.
        let behind = if place == CHAINS - 1 { 4 } else { 3 };
        let delete =
            format!("DELETE FROM public.ledger_log WHERE chain = '{}' AND id = 3", chain.name);
        let expected =
            vec![spelt(chain, 3, "log_mismatch"), ("ledger_log".to_owned(), Some(behind), "gap")];
        let in_sql = Some((3, "log_mismatch"));
        unguarded.assert_found(&delete, expected, chain, in_sql).await;
    }
    let every_row: Vec<_> = IN_LEDGER
        .iter()
        .flat_map(|chain| (1..=5).map(|id| spelt(chain, id, "log_mismatch")))
        .collect();
    let in_sql = Some((1, "log_mismatch"));
    let truncate = "TRUNCATE public.ledger_log";
    unguarded.assert_found(truncate, every_row, &SIGNALS, in_sql).await;
    unguarded.finish().await;
}

#[tokio::test]
async fn swapped_contents_and_swapped_entries() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        let mut set = String::new();
        for column in &chain.columns[1..] {
            // Columns that are alike in both rows are swapped as well.
            let name = column.stored_name();
            write!(set, "{name} = o.{name}, ").unwrap();
        }
        let set = set.trim_end_matches(", ").replace("created_at = o.created_at", "");
        let set = set.trim_end_matches(", ");
        let swap = format!(
            "UPDATE public.{0} AS t SET {set} FROM public.{0} AS o
             WHERE (t.id, o.id) IN ((2, 4), (4, 2))",
            chain.name
        );
        let expected = all_spelt(chain, &[(2, "content"), (4, "content")]);
        unguarded.assert_found(&swap, expected, chain, Some((2, "content"))).await;

        let swap = format!(
            "UPDATE public.ledger_log AS t SET row_hash = o.row_hash FROM public.ledger_log AS o
             WHERE t.chain = '{0}' AND o.chain = '{0}' AND (t.id, o.id) IN ((2, 4), (4, 2))",
            chain.name
        );
        let expected = all_spelt(chain, &[(2, "log_mismatch"), (4, "log_mismatch")]);
        unguarded.assert_found(&swap, expected, chain, Some((2, "log_mismatch"))).await;

        // The second row's leaf before the first one's: in SQL the log's line says so.
        let swap = format!(
            "UPDATE public.ledger_log AS t SET leaf_index = o.leaf_index FROM public.ledger_log AS o
             WHERE t.chain = '{0}' AND o.chain = '{0}' AND (t.id, o.id) IN ((1, 2), (2, 1))",
            chain.name
        );
        let expected = all_spelt(chain, &[(1, "log_mismatch"), (1, "log_mismatch")]);
        unguarded.assert_found(&swap, expected, chain, None).await;
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn inserted_rows() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        let columns = audit_ledger::store::copy::copy_columns(chain);
        let copy = |select: &str| {
            format!(
                "INSERT INTO public.{0} ({columns}) SELECT {select} FROM public.{0} WHERE id = 5;",
                chain.name
            )
        };
        let at_end = columns
            .replacen("id,", "id + 1,", 1)
            .replace("prev_hash, row_hash", "row_hash, row_hash");
        let expected = all_spelt(chain, &[(6, "content"), (6, "log_mismatch")]);
        unguarded.assert_found(&copy(&at_end), expected, chain, Some((6, "content"))).await;

        let well_made = copy(&at_end) + &rehash(chain, "id = 6");
        let expected = all_spelt(chain, &[(6, "log_mismatch")]);
        unguarded.assert_found(&well_made, expected, chain, Some((6, "log_mismatch"))).await;

        let twice = copy(&columns).replace("id = 5", "id = 3");
        let expected = all_spelt(chain, &[(3, "gap"), (3, "log_mismatch")]);
        unguarded.assert_found(&twice, expected, chain, Some((3, "gap"))).await;
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn rehashed_rows() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        // A link of its own making, with a right hash.
        let relinked =
            format!("UPDATE public.{} SET prev_hash = repeat('0', 64) WHERE id = 3;", chain.name)
                + &rehash(chain, "id = 3");
        let expected = all_spelt(chain, &[(3, "link"), (3, "log_mismatch"), (4, "link")]);
        unguarded.assert_found(&relinked, expected, chain, Some((3, "link"))).await;

        let changed = change(chain, "id = 3") + &rehash(chain, "id = 3");
        let expected = all_spelt(chain, &[(3, "log_mismatch"), (4, "link")]);
        unguarded.assert_found(&changed, expected, chain, Some((3, "log_mismatch"))).await;

        let in_log_too = changed + &adapt_log(chain);
        let expected = all_spelt(chain, &[(4, "link")]);
        unguarded.assert_found(&in_log_too, expected, chain, Some((4, "link"))).await;

        let to_the_end = change(chain, "id = 3") + &rehash_from(chain, 3);
        let expected =
            all_spelt(chain, &[(3, "log_mismatch"), (4, "log_mismatch"), (5, "log_mismatch")]);
        unguarded.assert_found(&to_the_end, expected, chain, Some((3, "log_mismatch"))).await;

        // Another beginning, and everything after it made to fit.
        let beginning =
            format!("UPDATE public.{} SET prev_hash = repeat('0', 64) WHERE id = 1;", chain.name)
                + &rehash_from(chain, 1)
                + &adapt_log(chain);
        let expected = all_spelt(chain, &[(1, "link")]);
        unguarded.assert_found(&beginning, expected, chain, Some((1, "link"))).await;
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn time_that_runs_backwards_in_a_chain_made_to_fit() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        let earlier = format!(
            "UPDATE public.{} SET created_at = created_at - interval '1 h' WHERE id = 3;",
            chain.name
        ) + &rehash_from(chain, 3)
            + &adapt_log(chain);
        let expected = all_spelt(chain, &[(3, "time_reversal")]);
        unguarded.assert_found(&earlier, expected, chain, Some((3, "time_reversal"))).await;

        let later = earlier.replace("- interval", "+ interval");
        let expected = all_spelt(chain, &[(4, "time_reversal")]);
        unguarded.assert_found(&later, expected, chain, Some((4, "time_reversal"))).await;
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn every_tampered_row_is_found_not_only_the_first() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        let two = change(chain, "id IN (2, 4)");
        let expected = all_spelt(chain, &[(2, "content"), (4, "content")]);
        unguarded.assert_found(&two, expected, chain, Some((2, "content"))).await;
    }
    let mut everywhere = String::new();
    let mut expected = Vec::new();
    for chain in IN_LEDGER {
        everywhere += &change(chain, "true");
        expected.extend((1..=5).map(|id| spelt(chain, id, "content")));
    }
    unguarded
        .assert_found(&everywhere, expected, &QUARANTINED_DELIVERIES, Some((1, "content")))
        .await;

    // One of each kind, in one chain.
    let signals = &SIGNALS;
    let many = change(signals, "id = 1")
        + "UPDATE public.ledger_log SET row_hash = '' WHERE chain = 'signals' AND id = 2;"
        + "UPDATE public.signals SET row_hash = repeat('0', 64) WHERE id = 3;"
        + "DELETE FROM public.signals WHERE id = 5;";
    let mut expected = all_spelt(
        signals,
        &[
            (1, "content"),
            (2, "log_mismatch"),
            (3, "content"),
            (3, "log_mismatch"),
            (4, "link"),
            (5, "log_mismatch"),
            (5, "gap"),
        ],
    );
    expected.extend(orphans(signals, 5));
    unguarded.assert_found(&many, expected, signals, Some((1, "content"))).await;
    unguarded.finish().await;
}

/// What only something kept outside the database tells: checkpoints.
#[tokio::test]
async fn a_history_rewritten_whole_or_cut_off_is_consistent_by_itself() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        let rewritten = change(chain, "id = 3") + &rehash_from(chain, 3) + &adapt_log(chain);
        run(&mut unguarded.superuser, &rewritten).await;
        assert_eq!(findings(&check(&unguarded.ledger).await), []);
        unguarded.restore().await;
    }
    let cut = format!(
        "DELETE FROM public.ledger_log WHERE leaf_index = {};
         DELETE FROM public.quarantined_deliveries WHERE id = 5",
        5 * CHAINS - 1
    );
    run(&mut unguarded.superuser, &cut).await;
    assert_eq!(findings(&check(&unguarded.ledger).await), []);
    unguarded.restore().await;
    unguarded.finish().await;
}
