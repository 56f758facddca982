//! API keys: only the owner makes them, nothing of one ever changes but that it is revoked, and
//! both are on record whoever does it.

use audit_ledger::keys::Scope;
use audit_ledger::store::keys::{Revocation, list_keys, revoke_key};
use sqlx::postgres::PgConnection;

use crate::common::builders::api_key;
use crate::common::{TestLedger, attempt, fetch, refused, run};

const NO_RIGHT: &str = "42501";
const REFUSED: &str = "AU010";
const CHECK_VIOLATION: &str = "23514";

/// An INSERT of a key with this id and these scopes.
fn insert(id: u32, scopes: &str) -> String {
    format!(
        "INSERT INTO public.api_keys (key_id, name, scopes, secret_sha256)
         VALUES ('{id:016x}', 'desk', {scopes}, repeat('0', 64))"
    )
}

/// Changes that no role may make, of a key in force and of one that is revoked.
const CHANGES: [&str; 17] = [
    "UPDATE public.api_keys SET scopes = '{admin}'",
    "UPDATE public.api_keys SET scopes = scopes WHERE false",
    "UPDATE public.api_keys SET name = 'other' WHERE name = 'desk'",
    "UPDATE public.api_keys SET key_id = '0123456789abcdef'",
    "UPDATE public.api_keys SET secret_sha256 = repeat('0', 64)",
    "UPDATE public.api_keys SET created_at = '2020-01-01 00:00Z'",
    "UPDATE public.api_keys SET created_by = 'postgres'",
    "UPDATE public.api_keys SET revoked_at = now(), scopes = '{admin}'",
    "UPDATE public.api_keys SET revoked_at = NULL",
    "UPDATE public.api_keys SET revoked_at = NULL, revoked_by = NULL",
    "UPDATE public.api_keys SET revoked_by = 'somebody'",
    "UPDATE public.api_keys SET revoked_at = revoked_at",
    "DELETE FROM public.api_keys",
    "DELETE FROM public.api_keys WHERE false",
    "TRUNCATE public.api_keys",
    "MERGE INTO public.api_keys AS k USING (SELECT 'desk' AS n) AS s ON k.name = s.n
         WHEN MATCHED THEN UPDATE SET scopes = '{admin}'",
    "INSERT INTO public.api_keys SELECT * FROM public.api_keys
         ON CONFLICT (key_id) DO UPDATE SET scopes = '{admin}'",
];

const REVOKE_BY_HAND: &str = "UPDATE public.api_keys SET revoked_at = '2020-01-01 00:00Z'";

async fn events(connection: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT coalesce(array_agg(event_type || ' ' || actor || ' ' || details_text
                                         ORDER BY id), '{}')
               FROM public.security_events";
    fetch(connection, sql).await
}

#[tokio::test]
async fn no_login_makes_changes_or_revokes_a_key() {
    let ledger = TestLedger::new().await;
    let (id, _) = api_key(&ledger.owner(), "desk", &[Scope::Read]).await;
    for role in ["app_trading", "ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        let calls = [
            insert(1, "'{admin}'"),
            REVOKE_BY_HAND.to_owned(),
            format!("SELECT public.ledger_revoke_key('{id}')"),
            "SELECT public.ledger_create_key('0123456789abcdef', 'x', '{admin}', '')".to_owned(),
            "SELECT public.ledger_stamp_key()".to_owned(),
            "SELECT public.ledger_record_key()".to_owned(),
            "ALTER TABLE public.api_keys DISABLE TRIGGER ALL".to_owned(),
            "ALTER TABLE public.api_keys OWNER TO CURRENT_USER".to_owned(),
            "DROP TRIGGER ledger_record_key ON public.api_keys".to_owned(),
            "DROP TABLE public.api_keys CASCADE".to_owned(),
            "LOCK TABLE public.api_keys IN SHARE MODE".to_owned(),
            "SELECT FROM public.api_keys FOR UPDATE".to_owned(),
        ];
        for attack in calls.iter().map(String::as_str).chain(CHANGES) {
            run(&mut connection, "BEGIN").await;
            assert_eq!(refused(&mut connection, attack).await, NO_RIGHT, "{role}: {attack}");
            run(&mut connection, "ROLLBACK").await;
        }
        let hash = "SELECT secret_sha256 FROM public.api_keys";
        let may_read = attempt(&mut connection, hash).await.is_ok();
        assert_eq!(may_read, role == "app_trading", "{role}");
        let may_list = list_keys(&crate::common::database(&ledger.options(role))).await.is_ok();
        assert_eq!(may_list, role != "ledger_migrator", "{role}");
    }
    assert_eq!(ledger.finish().await, 1);
}

#[tokio::test]
async fn making_and_revoking_are_on_record_and_a_key_is_revoked_once() {
    let ledger = TestLedger::new().await;
    let owner = ledger.owner();
    let (id, _) = api_key(&owner, "desk", &[Scope::Verify, Scope::Read]).await;
    assert_eq!(revoke_key(&owner, id).await.unwrap(), Revocation::Done);
    let twice = revoke_key(&owner, id).await.unwrap();
    assert!(
        matches!(&twice, Revocation::Refused(why)
            if why.starts_with(&format!("key {id} was revoked before, at 2"))),
        "{twice:?}"
    );
    let unknown = "0123456789abcdef".parse().unwrap();
    let never = revoke_key(&owner, unknown).await.unwrap();
    assert_eq!(never, Revocation::Refused("there is no key 0123456789abcdef".to_owned()));

    let mut superuser = ledger.connect_superuser().await;
    let details = format!(r#"{{"name": "desk", "key_id": "{id}", "scopes": ["read", "verify"]}}"#);
    let expected =
        ["KEY_CREATED", "KEY_REVOKED"].map(|event| format!("{event} ledger_migrator {details}"));
    assert_eq!(events(&mut superuser).await, expected);
    let subject: String =
        fetch(&mut superuser, "SELECT DISTINCT subject FROM public.security_events").await;
    assert_eq!(subject, format!("key {id} of desk"));
    let [key] = list_keys(&ledger.auditor()).await.unwrap().try_into().unwrap();
    assert_eq!(
        (key.key_id, key.name.as_str(), key.scopes.to_string().as_str()),
        (id, "desk", "read, verify")
    );
    assert_eq!(
        (key.created_by.as_str(), key.revoked_by.as_deref()),
        ("ledger_migrator", Some("ledger_migrator"))
    );
    assert!(key.revoked_at.unwrap() >= key.created_at);

    // Neither is there without the other.
    run(&mut superuser, "BEGIN").await;
    run(&mut superuser, &insert(1, "'{read}'")).await;
    run(&mut superuser, "ROLLBACK").await;
    assert_eq!(
        (events(&mut superuser).await.len(), list_keys(&owner).await.unwrap().len()),
        (2, 1)
    );
    drop(superuser);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn the_owner_by_hand_is_held_to_the_same_rules() {
    let ledger = TestLedger::new().await;
    api_key(&ledger.owner(), "desk", &[Scope::Read]).await;
    let mut owner = ledger.connect_owner().await;
    for change in CHANGES {
        let code = refused(&mut owner, change).await;
        assert!(code == NO_RIGHT || code == REFUSED, "{code}: {change}");
    }
    ledger.change_guards("GRANT ALL ON public.api_keys TO ledger_owner").await;
    for change in CHANGES {
        assert_eq!(refused(&mut owner, change).await, REFUSED, "{change}");
    }
    run(&mut owner, REVOKE_BY_HAND).await;
    for change in CHANGES.into_iter().chain([REVOKE_BY_HAND]) {
        assert_eq!(refused(&mut owner, change).await, REFUSED, "{change}");
    }
    drop(owner);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn a_superuser_is_too_and_what_passes_is_on_record_with_the_databases_own_word() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser_unguarded().await;
    for (n, replication_role) in (0..).zip(["origin", "local", "replica"]) {
        run(&mut superuser, &format!("SET session_replication_role = {replication_role}")).await;
        // A key that claims to be old, and to be somebody else's doing.
        let old = insert(n, "'{read}'")
            .replace("secret_sha256)", "secret_sha256, created_at, created_by, revoked_at)")
            .replace("64))", "64), '2020-01-01 00:00Z', 'nobody', '2020-01-01 00:00Z')");
        run(&mut superuser, &old).await;
        for change in CHANGES {
            let before = refusals(&mut superuser).await;
            assert_eq!(refused(&mut superuser, change).await, REFUSED, "{change}");
            assert_eq!(refusals(&mut superuser).await, before + 1, "{change}");
        }
        let in_force = format!("{REVOKE_BY_HAND}, revoked_by = 'nobody' WHERE revoked_at IS NULL");
        run(&mut superuser, &in_force).await;
        assert_eq!(refused(&mut superuser, REVOKE_BY_HAND).await, REFUSED);
        assert_eq!(events(&mut superuser).await.len(), 2 * (n as usize + 1));
    }
    let honest = "SELECT bool_and(created_by = 'postgres' AND revoked_by = 'postgres'
                         AND created_at > now() - interval '1 h' AND revoked_at > created_at)
                  FROM public.api_keys";
    assert!(fetch::<bool>(&mut superuser, honest).await);
    let always = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.api_keys'::regclass
                    AND NOT tgisinternal AND tgenabled = 'A'";
    assert_eq!(fetch::<i64>(&mut superuser, always).await, 6);

    // Logical replication fires row triggers only.
    run(&mut superuser, "BEGIN").await;
    let disable = "ALTER TABLE public.api_keys DISABLE TRIGGER ledger_refuse_statement";
    run(&mut superuser, disable).await;
    for change in CHANGES {
        if change.contains("WHERE false") || change.starts_with("TRUNCATE") {
            continue;
        }
        run(&mut superuser, "SAVEPOINT s").await;
        assert_eq!(refused(&mut superuser, change).await, REFUSED, "{change}");
        run(&mut superuser, "ROLLBACK TO s").await;
    }
    run(&mut superuser, "ROLLBACK").await;
    drop(superuser);
    assert_eq!(ledger.finish().await, 6);
}

async fn refusals(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END
               FROM public.ledger_refused_aud_010";
    fetch(connection, sql).await
}

#[tokio::test]
async fn a_key_has_known_scopes_in_order_and_a_plain_name() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.connect_owner().await;
    for scopes in [
        "'{}'",
        "'{Read}'",
        "'{read,read}'",
        "'{verify,read}'",
        "'{read,root}'",
        "'{{read,verify}}'",
        "'{read,NULL}'",
        "'[0:0]={read}'",
    ] {
        assert_eq!(refused(&mut owner, &insert(1, scopes)).await, CHECK_VIOLATION, "{scopes}");
    }
    for (from, to) in [
        ("desk", "two words"),
        ("desk", ""),
        ("'desk'", "E'line\\n'"),
        ("0000000000000001", "000000000000000G"),
        ("0000000000000001", "1"),
        ("repeat('0', 64)", "repeat('A', 64)"),
        ("repeat('0', 64)", "''"),
    ] {
        let insert = insert(1, "'{read}'").replace(from, to);
        assert_eq!(refused(&mut owner, &insert).await, CHECK_VIOLATION, "{insert}");
    }
    for (n, scopes) in (1..).zip(["'{read}'", "'{admin,export,ingest,read,verify}'"]) {
        run(&mut owner, &insert(n, scopes)).await;
    }
    assert_eq!(refused(&mut owner, &insert(1, "'{read}'")).await, "23505");
    drop(owner);
    assert_eq!(ledger.finish().await, 2);
}
