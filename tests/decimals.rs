//! What a number's text says is what the vectors and PostgreSQL's `numeric` say.

mod common;

use audit_ledger::decimal;
use common::random::sample;
use common::{TestLedger, run};
use proptest::prelude::*;
use serde_json::Value as Json;
use sqlx::AssertSqlSafe;

/// Digits that a column of this scale has in the schema.
fn precision_of(scale: u8) -> u8 {
    match scale {
        4 => 5,
        _ => 28,
    }
}

#[test]
fn decimals_are_read_as_the_vectors_say() {
    let vectors: Json =
        serde_json::from_str(include_str!("../verifier/tests/vectors/decimals.json")).unwrap();
    let cases = |kind: &str| vectors[kind].as_array().unwrap().clone();
    let parse = |case: &Json| {
        let literal = case["literal"].as_str().unwrap();
        // A number may come as a JSON string; what is within the quotes counts.
        let text = serde_json::from_str::<String>(literal).unwrap_or(literal.to_owned());
        let scale = u8::try_from(case["scale"].as_u64().unwrap()).unwrap();
        let units = decimal::parse(&text, precision_of(scale), scale);
        units.map(|units| ledger_verifier::decimal::to_string(units, scale))
    };
    for case in cases("accept") {
        assert_eq!(parse(&case).as_deref(), Ok(case["stored"].as_str().unwrap()), "{case}");
    }
    for case in cases("reject") {
        assert!(parse(&case).is_err(), "{case}");
    }
}

fn json_number() -> impl Strategy<Value = String> {
    let integer = prop_oneof!["0", "[1-9][0-9]{0,22}", "[1-9]0{0,22}"];
    let fraction = prop_oneof![
        2 => Just(String::new()),
        3 => "\\.[0-9]{1,14}",
        2 => "\\.[0-9]{0,6}0{1,14}",
        1 => "\\.0{1,14}[0-9]{1,3}",
    ];
    let exponent =
        prop_oneof![3 => Just(String::new()), 2 => "[eE][-+]?[0-9]{1,2}", 1 => "e-?0[0-9]"];
    ("-?", integer, fraction, exponent).prop_map(|(sign, i, f, e)| format!("{sign}{i}{f}{e}"))
}

#[tokio::test]
async fn decimals_are_read_as_numeric_reads_them_and_never_rounded() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let literals = sample(&json_number(), 20_000);
    for (precision, scale) in [(28, 10), (28, 2), (5, 4)] {
        let sql = format!(
            "SELECT CASE WHEN n = round(n, {scale}) AND abs(n) < 1e{}::numeric
                         THEN n::numeric({precision}, {scale})::text END
             FROM (SELECT place, literal::numeric AS n
                   FROM unnest($1::text[]) WITH ORDINALITY AS l (literal, place)) AS numbers
             ORDER BY place",
            precision - scale
        );
        let in_sql: Vec<Option<String>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&literals)
            .fetch_all(&mut app)
            .await
            .unwrap();
        let mut exact = 0;
        for (literal, in_sql) in literals.iter().zip(in_sql) {
            let units = decimal::parse(literal, precision, scale);
            exact += usize::from(units.is_ok());
            let text = units.ok().map(|units| ledger_verifier::decimal::to_string(units, scale));
            assert_eq!(text, in_sql, "{literal} as numeric({precision},{scale})");
        }
        assert!(exact > 500 && exact < 19_500, "{exact} of both kinds");
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn a_number_that_fits_jsonb_is_taken_by_jsonb() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    let accepts = "
        CREATE FUNCTION pg_temp.accepts(literal text) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM literal::jsonb;
            RETURN true;
        EXCEPTION WHEN numeric_value_out_of_range OR invalid_text_representation THEN
            RETURN false;
        END $$";
    run(&mut superuser, accepts).await;
    let mut literals = Vec::new();
    for mantissa in ["0", "1", "-9", "0.1", "0.001", "123.456", "10", "1.0", "0.000"] {
        for exponent in [
            0,
            1,
            4,
            16_380,
            16_381,
            16_383,
            16_384,
            16_386,
            131_068,
            131_070,
            131_071,
            131_072,
            131_073,
            131_076,
            1_073_741_822,
            1_073_741_823,
            2_147_483_647,
            2_147_483_648_i64,
            99_999_999_999,
        ] {
            literals.push(format!("{mantissa}e{exponent}"));
            literals.push(format!("{mantissa}e-{exponent}"));
        }
    }
    let accepted: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_temp.accepts(literal) FROM unnest($1::text[]) WITH ORDINALITY AS l (literal, place)
         ORDER BY place",
    )
    .bind(&literals)
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    for (literal, accepted) in literals.iter().zip(accepted) {
        assert!(accepted || !decimal::fits_jsonb(literal), "{literal} is refused by jsonb");
    }
    for literal in ["1e131071", "-9e131071", "1e-16383", "0.1e-16382", "0", "123.456e4"] {
        assert!(decimal::fits_jsonb(literal), "{literal}");
    }
    assert_eq!(ledger.finish().await, 0);
}
