//! What the API says of the chains, against the database's catalog and against what it takes.

use std::collections::BTreeMap;

use audit_ledger::chains::IN_LEDGER;
use ledger_verifier::chain::by_name;
use serde_json::{Value as Json, json};

use crate::Desk;
use crate::common::{TestLedger, fetch};
use crate::naive::{EQUAL, column_of, parameters_of};

/// The columns of each chain as the catalog has them.
const IN_CATALOG: &str = r"
    SELECT jsonb_agg(columns ORDER BY chain.place)
    FROM unnest(ledger_chains()) WITH ORDINALITY AS chain (name, place),
         LATERAL (
            SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'name', column_name || CASE data_type WHEN 'bytea' THEN '_base64' ELSE '' END,
                'type', CASE
                    WHEN column_name LIKE '%\_text' THEN 'document'
                    ELSE CASE data_type
                        WHEN 'bigint' THEN 'integer'
                        WHEN 'numeric' THEN 'decimal'
                        WHEN 'character varying' THEN 'text'
                        WHEN 'inet' THEN 'address'
                        WHEN 'timestamp with time zone' THEN 'time'
                        WHEN 'bytea' THEN 'bytes'
                        ELSE data_type
                    END
                END,
                'nullable', is_nullable = 'YES',
                'precision', CASE data_type WHEN 'numeric' THEN numeric_precision END,
                'scale', CASE data_type WHEN 'numeric' THEN numeric_scale END,
                'max_chars', character_maximum_length)) ORDER BY ordinal_position) AS columns
            FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = chain.name AND is_generated = 'NEVER'
              AND column_name NOT IN ('prev_hash', 'row_hash')) AS of_chain";

/// The values that a constraint lists, by chain and column.
const LISTED: &str = r"
    SELECT jsonb_object_agg(conrelid::regclass || '.' || attname, (
        SELECT jsonb_agg(value[1] ORDER BY place)
        FROM regexp_matches(pg_get_constraintdef(c.oid), '''([^'']+)''::', 'g')
             WITH ORDINALITY AS listed (value, place)))
    FROM pg_constraint AS c, pg_attribute AS a
    WHERE attrelid = conrelid AND ARRAY[attnum] = conkey AND conname LIKE '%\_known'";

fn without(mut object: Json, member: &str) -> Json {
    object.as_object_mut().unwrap().remove(member);
    object
}

fn array(json: &Json) -> &Vec<Json> {
    json.as_array().unwrap()
}

#[tokio::test]
async fn the_chains_are_as_the_catalog_has_them() {
    let desk = Desk::open(TestLedger::new().await).await;
    let answer = desk.read("/v1/chains").await;
    let mut superuser = desk.ledger.connect_superuser().await;
    let names: Vec<String> = fetch(&mut superuser, "SELECT ledger_chains()").await;
    let chains = array(&answer["chains"]);
    assert!(chains.iter().map(|chain| &chain["name"]).eq(names.iter()), "{answer}");
    let columns: Vec<Vec<Json>> = chains
        .iter()
        .map(|chain| array(&chain["columns"]).iter().cloned())
        .map(|columns| columns.map(|column| without(column, "values")).collect())
        .collect();
    let in_catalog: Json = fetch(&mut superuser, IN_CATALOG).await;
    assert_eq!(json!(columns), in_catalog);

    let listed: BTreeMap<String, Json> =
        serde_json::from_value(fetch(&mut superuser, LISTED).await).unwrap();
    let mut with_values = Vec::new();
    for (chain, name) in chains.iter().zip(&names) {
        let stays_open = ["security_events", "quarantined_deliveries"].contains(&name.as_str());
        assert_eq!(chain["stops_in_lockdown"], !stays_open);
        for column in array(&chain["columns"]) {
            let Some(values) = column.get("values") else { continue };
            let column = format!("{name}.{}", column["name"].as_str().unwrap());
            assert_eq!(values, &listed[&column], "{column}");
            with_values.push(column);
        }
    }
    assert_eq!(with_values.len(), 7, "{with_values:?}");
    drop(superuser);
    desk.close().await;
}

#[tokio::test]
async fn what_the_chains_are_filtered_and_grouped_by_is_what_is_taken() {
    let desk = Desk::open(TestLedger::new().await).await;
    let answer = desk.read("/v1/chains").await;
    for described in array(&answer["chains"]) {
        let name = described["name"].as_str().unwrap();
        let chain = by_name(name).unwrap();
        // No route of its own stands before a chain's list.
        assert!(desk.read(&format!("/v1/{name}")).await["items"].is_array());

        let filters = array(&described["filters"]);
        assert!(filters.iter().map(|filter| &filter["name"]).eq(parameters_of(chain).iter()));
        for filter in filters {
            let parameter = filter["name"].as_str().unwrap();
            assert_eq!(filter["column"], column_of(parameter));
            let comparison = match parameter {
                "to" | "timestamp_to" => "below",
                "to_id" | "max_conviction" => "at_most",
                _ if EQUAL.contains(&parameter) => "equal",
                _ => "at_least",
            };
            assert_eq!(filter["comparison"], comparison, "{name} {parameter}");
            let mut columns = array(&described["columns"]).iter();
            let column = columns.find(|column| column["name"] == filter["column"]);
            let row_hash = json!({ "type": "text" });
            let column = column.unwrap_or(&row_hash);
            assert_eq!(
                (&filter["type"], filter.get("values")),
                (&column["type"], column.get("values"))
            );
            let none = desk.get(&format!("/v1/{name}?{parameter}=no+such+value")).await;
            let takes_any = filter["type"] == "text"
                && parameter != "row_hash"
                && filter.get("values").is_none();
            assert_eq!(none.status, if takes_any { 200 } else { 400 }, "{name} {parameter}");
            for value in filter.get("values").map_or(&Vec::new(), array) {
                let path = format!("/v1/{name}?{parameter}={}", value.as_str().unwrap());
                assert_eq!(desk.get(&path).await.status, 200, "{path}");
            }
        }
        for group_by in EQUAL.into_iter().chain(["hour", "day", "id", "created_at", "minute"]) {
            let path = format!("/v1/{name}/stats?group_by={group_by}");
            let is_taken = desk.get(&path).await.status == 200;
            let is_described = array(&described["group_by"]).contains(&group_by.into());
            assert_eq!(is_taken, is_described, "{path}");
        }
    }
    assert_eq!(desk.get("/v1/chains?chain=signals").await.body["field"], "chain");
    assert_eq!(desk.get("/v1/chains/stats").await.status, 404);
    assert_eq!(IN_LEDGER.len(), array(&answer["chains"]).len());
    desk.close().await;
}
