//! Sources of the TOML file: tokens for senders that cannot sign, addresses, proxies, mappings.

use audit_ledger::clock::Clock;
use audit_ledger::webhook::source::parse_sources;
use serde_json::json;

use crate::common::TestLedger;
use crate::server::Server;

const TOKEN: &str = "a token that only the sender knows";
const BODY: &str = r#"{"signal_id":"s-1","symbol":"BTCUSD","side":"BUY","price":1,"quantity":2}"#;

async fn server(ledger: &TestLedger, toml: &str, proxies: &[&str]) -> Server {
    let sources = parse_sources(toml).unwrap();
    let proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
    Server::with(ledger, ledger.app(), sources, proxies, Clock::system()).await
}

#[tokio::test]
async fn a_path_token_is_taken_from_the_right_address_and_never_kept() {
    let ledger = TestLedger::new().await;
    let toml = format!(
        "[alerts]\nauth = ['path_token']\nsecrets = ['{TOKEN}']\nallow_from = ['127.0.0.0/8']
         [far]\nauth = ['path_token']\nsecrets = ['{TOKEN}']\nallow_from = ['192.0.2.1']
         [signed]\nauth = ['hmac']\nsecrets = ['{TOKEN}']"
    );
    let server = server(&ledger, &toml, &[]).await;
    let token = TOKEN.replace(' ', "%20");
    let post = async |path: String| server.post(&path, BODY.as_bytes(), &[]).await;
    let answer = post(format!("/webhook/alerts/{token}")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let columns = "recorded_by, auth_method, hmac_verified::text, raw_payload_text";
    let row = server.row(&format!("SELECT {columns} FROM signals")).await;
    assert_eq!(row, ["alerts", "path_token", "false", BODY]);
    for (path, status, code) in [
        ("/webhook/alerts".to_owned(), 401, "SEC-001"),
        ("/webhook/alerts/another-token-entirely".to_owned(), 401, "SEC-003"),
        ("/webhook/alerts/".to_owned(), 404, "NTF-001"),
        (format!("/webhook/far/{token}"), 401, "SEC-003"),
        (format!("/webhook/signed/{token}"), 401, "SEC-001"),
        (format!("/webhook/unknown/{token}"), 404, "NTF-001"),
    ] {
        let answer = post(path.clone()).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{path}");
        assert!(!answer.body.to_string().contains("token that only"), "{answer:?}");
    }
    assert!(!server.text("/metrics").await.contains("only%20the"));
    assert_eq!(server.count("signals").await + server.count("quarantined_deliveries").await, 1);
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn a_body_token_reaches_neither_the_database_nor_an_answer() {
    let ledger = TestLedger::new().await;
    let toml = format!(
        "[tv]\nauth = ['body_token']\nsecrets = ['{TOKEN}', 'a newer token for the rotation']
         token_member = 'passphrase'\nallow_from = ['127.0.0.1']"
    );
    let server = server(&ledger, &toml, &[]).await;
    let body = |token: &str, rest: &str| {
        format!(
            "{{ \"symbol\":\"ETHUSD\", \"passphrase\" : \"{token}\",\n\"side\":\"sell\"{rest}}}"
        )
    };
    let good = r#","price":1.50,"quantity":2,"id":"b-1""#;
    let post = async |body: String| server.post("/webhook/tv", body.as_bytes(), &[]).await;
    let answer = post(body(TOKEN, good)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let row =
        server.row("SELECT raw_payload_text, auth_method, hmac_verified::text FROM signals").await;
    assert_eq!(row, [body("", good), "body_token".to_owned(), "false".to_owned()]);
    // The same delivery with the other token is the same delivery.
    let again = post(body("a newer token for the rotation", good)).await;
    assert_eq!((again.status, &again.body["receipt"]), (200, &answer.body["receipt"]));
    // What cannot become a signal is kept without the token, too.
    let kept = post(body(TOKEN, "")).await;
    assert_eq!((kept.status, &kept.body["reason"]), (422, &json!("missing_field")), "{kept:?}");
    let bytes = server.bytes("SELECT body FROM quarantined_deliveries").await;
    assert_eq!(bytes, body("", "").into_bytes());
    for (body, code) in [
        (body("another token entirely", good), "SEC-003"),
        (body("", good), "SEC-004"),
        (BODY.to_owned(), "SEC-004"),
        (body(TOKEN, good) + "x", "SEC-004"),
        (body(TOKEN, &format!(r#","passphrase":"{TOKEN}""#)), "SEC-004"),
        (body(TOKEN, &format!(r#","comment":"it is {TOKEN}""#)), "SEC-004"),
        (format!("[{}]", body(TOKEN, good)), "SEC-004"),
    ] {
        let answer = post(body).await;
        assert_eq!((answer.status, &answer.body["code"]), (401, &json!(code)), "{answer:?}");
    }
    assert_eq!(server.count("signals").await + server.count("quarantined_deliveries").await, 2);
    server.stop().await;
    let mut superuser = ledger.connect_superuser().await;
    for table in ["signals", "quarantined_deliveries", "security_events"] {
        let secret = "only the sender|newer token";
        let query = format!("SELECT count(*) FROM {table} AS t WHERE t::text ~ '{secret}'");
        assert_eq!(crate::common::fetch::<i64>(&mut superuser, &query).await, 0, "{table}");
    }
    drop(superuser);
    ledger.finish().await;
}

#[tokio::test]
async fn a_source_has_its_own_mapping_and_its_client_stands_behind_the_proxy() {
    let ledger = TestLedger::new().await;
    let toml = format!(
        "[desk]\nauth = ['hmac']\nsecrets = ['{TOKEN}']\nallow_from = ['198.51.100.0/24']
         [desk.mapping]\nsignal_id = ['/order/id', '/id']\nsymbol = ['/order/legs/0/symbol']
         price = ['/order/limit~1price']\n[desk.defaults]\nquantity = '1'\nside = 'buy'"
    );
    let server = server(&ledger, &toml, &["127.0.0.1/32"]).await;
    let body = r#"{"order":{"id":7,"legs":[{"symbol":"EURUSD"}],"limit/price":"1.0850"},"id":"x"}"#;
    let signature = crate::server::hmac_hex(TOKEN, body.as_bytes());
    let post = async |forwarded: &str, body: &str, signature: &str| {
        let headers = [("X-TradingView-Signature", signature), ("X-Forwarded-For", forwarded)];
        server.post("/webhook/desk", body.as_bytes(), &headers).await
    };
    let answer = post("203.0.113.1", body, &signature).await;
    assert_eq!((answer.status, &answer.body["code"]), (401, &json!("SEC-003")), "{answer:?}");
    let answer = post("203.0.113.1, 198.51.100.7", body, &signature).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let columns = "signal_id, symbol, side, price::text, quantity::text, host(source_ip)";
    let row = server.row(&format!("SELECT {columns} FROM signals")).await;
    assert_eq!(row, ["7", "EURUSD", "BUY", "1.0850000000", "1.0000000000", "198.51.100.7"]);

    let body = r#"{"order":{"legs":[{"symbol":"EURUSD"}]},"price":1,"id":"y"}"#;
    let answer = post("198.51.100.7", body, &crate::server::hmac_hex(TOKEN, body.as_bytes())).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(answer.body["detail"], "price is missing: none of /order/limit~1price is there");
    server.stop().await;
    ledger.finish().await;
}

/// However a delivery is proved, no secret of a source that uses tokens is kept.
#[tokio::test]
async fn a_source_that_uses_tokens_never_has_one_in_the_ledger() {
    const DIGITS: &str = "1234567890123456789";
    let ledger = TestLedger::new().await;
    let toml = format!(
        "[tv]\nauth = ['hmac', 'path_token', 'body_token']\nsecrets = ['{TOKEN}', '{DIGITS}']
         allow_from = ['127.0.0.1']"
    );
    let server = server(&ledger, &toml, &["127.0.0.1/32"]).await;
    let body = |rest: &str| {
        format!(r#"{{"id":1,"symbol":"BTCUSD","side":"buy","price":1,"quantity":1{rest}}}"#)
    };
    let token = TOKEN.replace(' ', "%20");
    let path = format!("/webhook/tv/{token}");
    for rest in [
        format!(r#","token":"{TOKEN}""#),
        format!(r#","token":"{DIGITS}""#),
        format!(r#","account":{DIGITS}"#),
        format!(r#","note":"{}""#, TOKEN.replace('k', "\\u006b")),
    ] {
        let body = body(&rest);
        let signature = crate::server::hmac_hex(TOKEN, body.as_bytes());
        let signed = [("X-TradingView-Signature", signature.as_str())];
        for (path, headers) in [("/webhook/tv", &signed[..]), (path.as_str(), &[])] {
            let answer = server.post(path, body.as_bytes(), headers).await;
            assert_eq!((answer.status, &answer.body["code"]), (401, &json!("SEC-004")), "{body}");
        }
    }
    let other = body(&format!(r#","token":"{TOKEN}","old":"{DIGITS}""#));
    assert_eq!(server.post("/webhook/tv", other.as_bytes(), &[]).await.status, 401);
    // A header is kept with what is quarantined, but not one that holds a secret.
    let kept = body(&format!(r#","token":"{TOKEN}""#)).replace("buy", "hold");
    let content_type = [("Content-Type", format!("text/plain; t={TOKEN}"))];
    let content_type = content_type.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = server.post("/webhook/tv", kept.as_bytes(), &content_type).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    let row =
        server.row("SELECT coalesce(content_type, '(none)') FROM quarantined_deliveries").await;
    assert_eq!(row, ["(none)"]);
    // A trusted proxy that does not say whom it speaks for speaks for nobody.
    let nobody = [("X-Forwarded-For", "unknown")];
    let answer = server.post(&path, body("").as_bytes(), &nobody).await;
    assert_eq!((answer.status, &answer.body["code"]), (401, &json!("SEC-003")), "{answer:?}");
    assert_eq!(server.post(&path, body("").as_bytes(), &[]).await.status, 201);
    server.stop().await;
    ledger.finish().await;
}
