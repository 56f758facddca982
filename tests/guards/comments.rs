//! Names for people: everything that the migrations make says in SQL what it is.

use audit_ledger::store::migrate::migrate;
use sqlx::postgres::PgConnection;

use crate::common::{TestLedger, fetch, run};
use crate::drift::told;

/// Objects of the ledger that have no comment, or one that is no sentence. From the catalog, so that
/// what a later migration makes is among them. A NOT NULL, which PostgreSQL 18 makes a constraint,
/// is part of its column.
const WITHOUT_WORDS: &str = "
    WITH schemas AS (
        SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'ledger_guard')),
    relations AS (
        SELECT oid, relkind FROM pg_class WHERE relnamespace IN (SELECT oid FROM schemas)),
    objects (class, id, part) AS (
        SELECT 'pg_namespace'::regclass, oid, 0 FROM schemas
        UNION ALL
        SELECT 'pg_class'::regclass, oid, 0 FROM relations WHERE relkind NOT IN ('i', 'I', 't')
        UNION ALL
        SELECT 'pg_class'::regclass, indexrelid, 0 FROM pg_index
        WHERE indrelid IN (SELECT oid FROM relations WHERE relkind <> 't')
          AND NOT EXISTS (SELECT FROM pg_constraint
                          WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
        UNION ALL
        SELECT 'pg_class'::regclass, attrelid, attnum FROM pg_attribute
        WHERE attrelid IN (SELECT oid FROM relations WHERE relkind NOT IN ('i', 'I', 't', 'S'))
          AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT 'pg_proc'::regclass, oid, 0 FROM pg_proc
        WHERE pronamespace IN (SELECT oid FROM schemas)
        UNION ALL
        SELECT 'pg_type'::regclass, oid, 0 FROM pg_type
        WHERE typnamespace IN (SELECT oid FROM schemas) AND typtype IN ('d', 'e', 'r')
        UNION ALL
        SELECT 'pg_constraint'::regclass, oid, 0 FROM pg_constraint
        WHERE connamespace IN (SELECT oid FROM schemas) AND contype <> 'n'
        UNION ALL
        SELECT 'pg_trigger'::regclass, oid, 0 FROM pg_trigger
        WHERE tgrelid IN (SELECT oid FROM relations) AND NOT tgisinternal
        UNION ALL
        SELECT 'pg_event_trigger'::regclass, oid, 0 FROM pg_event_trigger
        UNION ALL
        SELECT 'pg_authid'::regclass, id, 0 FROM ledger_guard.roles() WHERE is_ledgers)
    SELECT coalesce(array_agg(name ORDER BY name), '{}')
    FROM (SELECT pg_describe_object(class, id, part) AS name,
                 coalesce(CASE class WHEN 'pg_authid'::regclass
                     THEN (SELECT description FROM pg_shdescription
                           WHERE classoid = class AND objoid = id)
                     ELSE (SELECT description FROM pg_description
                           WHERE classoid = class AND objoid = id AND objsubid = part) END, '')
                     AS words
          FROM objects) AS described
    WHERE words !~ '[[:alnum:]].*[^.[:space:]][.]$'";

async fn without_words(connection: &mut PgConnection) -> Vec<String> {
    fetch(connection, WITHOUT_WORDS).await
}

#[tokio::test]
async fn everything_says_what_it_is() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    assert_eq!(without_words(&mut superuser).await, Vec::<String>::new());
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn what_a_later_migration_leaves_without_words_is_named() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    run(
        &mut superuser,
        "BEGIN; SELECT ledger_guard.begin_migration();
         CREATE TABLE public.later (
             id bigint GENERATED ALWAYS AS IDENTITY, kind text,
             CONSTRAINT later_pkey PRIMARY KEY (id),
             CONSTRAINT later_kind_known CHECK (kind = 'a'));
         CREATE INDEX later_kind_idx ON public.later (kind);
         CALL public.ledger_guard_table('public.later');
         CREATE VIEW public.vw_later AS SELECT id FROM public.later;
         CREATE FUNCTION ledger_guard.later() RETURNS int LANGUAGE sql RETURN 1;
         COMMENT ON TABLE public.later IS 'No sentence';
         COMMENT ON COLUMN public.later.id IS 'A sentence.';
         COMMENT ON COLUMN public.signals.price IS '.'",
    )
    .await;
    assert_eq!(
        without_words(&mut superuser).await,
        [
            "column id of view vw_later",
            "column kind of table later",
            "column price of table signals",
            "constraint later_kind_known on table later",
            "constraint later_pkey on table later",
            "function ledger_guard.later()",
            "index later_kind_idx",
            "sequence later_id_seq",
            "table later",
            "trigger ledger_refuse_row on table later",
            "trigger ledger_refuse_statement on table later",
            "view vw_later",
        ]
    );
    run(&mut superuser, "ROLLBACK").await;
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn a_comment_is_no_guard_and_migrating_says_again_what_the_guards_are() {
    let ledger = TestLedger::new().await;
    for object in ["TABLE public.signals", "CONSTRAINT signals_pkey ON public.signals"] {
        run(&mut ledger.connect_owner().await, &format!("COMMENT ON {object} IS 'Mine.'")).await;
    }
    let mut superuser = ledger.connect_superuser().await;
    for object in [
        "SCHEMA ledger_guard",
        "FUNCTION ledger_guard.drift()",
        "COLUMN ledger_guard.known_drift.kind",
        "EVENT TRIGGER ledger_guard_ddl",
    ] {
        run(&mut superuser, &format!("COMMENT ON {object} IS NULL")).await;
    }
    assert_eq!(told(&ledger).await, Vec::<String>::new());
    assert_eq!(without_words(&mut superuser).await.len(), 4);

    for _ in 0..2 {
        let migrated = migrate(&ledger.superuser()).await.unwrap();
        assert_eq!(migrated.settled, []);
        assert_eq!(without_words(&mut superuser).await, Vec::<String>::new());
    }
    let words = "SELECT obj_description('public.signals'::regclass, 'pg_class')";
    assert_eq!(fetch::<String>(&mut superuser, words).await, "Mine.");
    assert_eq!(ledger.finish().await, 0);
}
