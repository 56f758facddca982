-- Signed checkpoints over the log, the tiles of its tree, and what places outside the database have
-- confirmed (FORMAT.md sections 3 and 4). What these tables say is never believed by itself: a note is
-- signed with a key that the database does not have, and hashes are compared with what was signed.
-- Runs as ledger_owner.

-- Held while a checkpoint is made, so that one is made at a time; see ledger_begin_checkpoint().
CREATE TABLE public.ledger_checkpoint_lock ();
REVOKE ALL ON public.ledger_checkpoint_lock FROM PUBLIC;

CREATE FUNCTION public.ledger_begin_checkpoint() RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE public.ledger_checkpoint_lock IN EXCLUSIVE MODE NOWAIT;
END
$$;
REVOKE ALL ON FUNCTION public.ledger_begin_checkpoint() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.ledger_begin_checkpoint() TO app_trading;

-- The histories that this database has begun. The first begins with the first checkpoint; a further
-- one where a ledger that is not what was signed, a restored backup most of all, was accepted as it is.
CREATE TABLE public.incarnations (
    -- 1, 2, 3, …
    id integer NOT NULL,
    -- Name of the log and of its keys, another one for each.
    origin varchar(255) NOT NULL,
    -- The last signed note of the origin before; NULL for the first, and where none is known.
    previous_checkpoint text,
    -- The lift by which it was accepted; NULL for the first.
    lifted_by bigint,
    -- The event that tells of it, its keys and the checkpoint before: the first leaf of what is new.
    security_event_id bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT incarnations_pkey PRIMARY KEY (id),
    CONSTRAINT incarnations_origin_key UNIQUE (origin),
    CONSTRAINT incarnations_lifted_by_key UNIQUE (lifted_by),
    CONSTRAINT incarnations_lifted_by_fkey FOREIGN KEY (lifted_by) REFERENCES public.lockdowns (id),
    CONSTRAINT incarnations_accepted CHECK ((lifted_by IS NULL) = (id = 1)),
    CONSTRAINT incarnations_previous_size
        CHECK (pg_catalog.octet_length(previous_checkpoint) <= 1000000)
);

-- Every checkpoint that was signed.
CREATE TABLE public.checkpoints (
    -- 1, 2, 3, …
    id bigint NOT NULL,
    incarnation integer NOT NULL,
    -- Leaves of the tree.
    tree_size bigint NOT NULL,
    -- The root over them: 32 bytes.
    root_hash bytea NOT NULL,
    -- The signed note, byte for byte.
    note text NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT checkpoints_pkey PRIMARY KEY (id),
    CONSTRAINT checkpoints_incarnation_fkey
        FOREIGN KEY (incarnation) REFERENCES public.incarnations (id),
    CONSTRAINT checkpoints_tree_size_range CHECK (tree_size BETWEEN 0 AND 9007199254740991),
    CONSTRAINT checkpoints_root_hash_size CHECK (pg_catalog.octet_length(root_hash) = 32),
    CONSTRAINT checkpoints_note_size CHECK (pg_catalog.octet_length(note) <= 1000000)
);

-- Full tiles of the tree (C2SP tlog-tiles): one for 256 leaves, one for 256 of these, and so on. The
-- others are made of ledger_log and of the roots here.
CREATE TABLE public.log_tiles (
    incarnation integer NOT NULL,
    -- 0 for hashes of leaves.
    level smallint NOT NULL,
    -- How many tiles of this level stand before it.
    index bigint NOT NULL,
    -- 256 hashes of 32 bytes.
    hashes bytea NOT NULL,
    -- The hash over all of them: one of the hashes of the level above.
    root bytea NOT NULL,
    CONSTRAINT log_tiles_pkey PRIMARY KEY (incarnation, level, index),
    CONSTRAINT log_tiles_level_range CHECK (level BETWEEN 0 AND 7),
    CONSTRAINT log_tiles_index_range CHECK (index BETWEEN 0 AND 9007199254740991),
    CONSTRAINT log_tiles_hashes_size CHECK (pg_catalog.octet_length(hashes) = 8192),
    CONSTRAINT log_tiles_root_size CHECK (pg_catalog.octet_length(root) = 32)
);
-- Hashes do not compress; kept apart, they leave the roots close together.
ALTER TABLE public.log_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- What each anchor has confirmed.
CREATE TABLE public.anchor_receipts (
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- Its URL, without what is secret.
    anchor varchar(500) NOT NULL,
    checkpoint_id bigint NOT NULL,
    -- What it answered, where that proves something: a time stamp (RFC 3161, DER), a cosignature.
    receipt bytea,
    confirmed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT anchor_receipts_pkey PRIMARY KEY (id),
    CONSTRAINT anchor_receipts_checkpoint_id_fkey
        FOREIGN KEY (checkpoint_id) REFERENCES public.checkpoints (id),
    CONSTRAINT anchor_receipts_receipt_size CHECK (pg_catalog.octet_length(receipt) <= 1048576)
);
CREATE INDEX anchor_receipts_anchor_idx ON public.anchor_receipts (anchor, checkpoint_id);

CALL public.ledger_guard_table('public.incarnations');
CALL public.ledger_guard_table('public.checkpoints');
CALL public.ledger_guard_table('public.log_tiles');
CALL public.ledger_guard_table('public.anchor_receipts');

-- BEFORE INSERT on incarnations: its number, and that what accepted it is a lift.
CREATE FUNCTION public.ledger_stamp_incarnation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE public.ledger_checkpoint_lock IN EXCLUSIVE MODE;
    SELECT coalesce(max(i.id), 0) + 1 INTO NEW.id FROM public.incarnations AS i;
    NEW.started_at := clock_timestamp();
    IF NEW.lifted_by IS NOT NULL
       AND NOT EXISTS (SELECT FROM public.lockdowns AS l
                       WHERE l.id = NEW.lifted_by AND l.action::text = 'LIFTED'
                         AND l.at > (SELECT max(i.started_at) FROM public.incarnations AS i))
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = 'AUD-011: an incarnation is accepted by a lift that came after the one before';
    END IF;
    RETURN NEW;
END
$$;

-- BEFORE INSERT on checkpoints: its number and time, and that it goes on where the last one ended.
CREATE FUNCTION public.ledger_stamp_checkpoint() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last record;
    leaves bigint;
BEGIN
    PERFORM public.ledger_begin_checkpoint();
    SELECT c.id, c.incarnation, c.tree_size, c.root_hash INTO last
    FROM public.checkpoints AS c ORDER BY c.id DESC LIMIT 1;
    SELECT l.leaf_index + 1 INTO leaves
    FROM public.ledger_log AS l ORDER BY l.leaf_index DESC LIMIT 1;
    NEW.id := coalesce(last.id, 0) + 1;
    NEW.signed_at := clock_timestamp();
    IF NEW.incarnation IS DISTINCT FROM (SELECT max(i.id) FROM public.incarnations AS i)
       OR NEW.tree_size > coalesce(leaves, 0)
       OR NEW.incarnation = last.incarnation
          AND (NEW.tree_size < last.tree_size
               OR NEW.tree_size = last.tree_size AND NEW.root_hash <> last.root_hash)
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = 'AUD-011: the checkpoint does not go on where the last one ended';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER ledger_stamp_incarnation BEFORE INSERT ON public.incarnations
    FOR EACH ROW EXECUTE FUNCTION public.ledger_stamp_incarnation();
ALTER TABLE public.incarnations ENABLE ALWAYS TRIGGER ledger_stamp_incarnation;
CREATE TRIGGER ledger_stamp_checkpoint BEFORE INSERT ON public.checkpoints
    FOR EACH ROW EXECUTE FUNCTION public.ledger_stamp_checkpoint();
ALTER TABLE public.checkpoints ENABLE ALWAYS TRIGGER ledger_stamp_checkpoint;

CALL public.ledger_grant_rights('public.incarnations', false);
CALL public.ledger_grant_rights('public.checkpoints', false);
CALL public.ledger_grant_rights('public.anchor_receipts', false);
-- No foreign key points to the tiles, so their owner needs no UPDATE on any column.
REVOKE ALL ON public.log_tiles FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE ON public.log_tiles FROM ledger_owner;
GRANT SELECT ON public.log_tiles TO app_trading, ledger_auditor;
-- Numbers and times are the database's own word.
GRANT INSERT (origin, previous_checkpoint, lifted_by, security_event_id)
    ON public.incarnations TO app_trading;
GRANT INSERT (incarnation, tree_size, root_hash, note) ON public.checkpoints TO app_trading;
GRANT INSERT ON public.log_tiles TO app_trading;
GRANT INSERT (anchor, checkpoint_id, receipt) ON public.anchor_receipts TO app_trading;

CALL public.ledger_describe_table('public.incarnations');
CALL public.ledger_describe_table('public.checkpoints');
CALL public.ledger_describe_table('public.log_tiles');
CALL public.ledger_describe_table('public.anchor_receipts');

COMMENT ON TABLE public.ledger_checkpoint_lock IS
    'Always empty: the table itself is locked while a checkpoint is made, so that one is made at a '
    'time. Only ledger_begin_checkpoint() takes the lock.';
COMMENT ON FUNCTION public.ledger_begin_checkpoint() IS
    'Takes the right to make a checkpoint until the transaction ends; refuses at once where another '
    'session has it.';
COMMENT ON FUNCTION public.ledger_stamp_incarnation() IS
    'Trigger: numbers an incarnation, and refuses one that no lift has accepted (AUD-011).';
COMMENT ON FUNCTION public.ledger_stamp_checkpoint() IS
    'Trigger: numbers a checkpoint, and refuses one that does not go on where the last one ended, or '
    'is of more leaves than the log has (AUD-011).';
COMMENT ON TRIGGER ledger_stamp_incarnation ON public.incarnations IS
    'Before an INSERT: numbers the incarnation, and refuses one that no lift has accepted (AUD-011).';
COMMENT ON TRIGGER ledger_stamp_checkpoint ON public.checkpoints IS
    'Before an INSERT: numbers the checkpoint, and refuses one that does not go on where the last one '
    'ended (AUD-011).';

COMMENT ON TABLE public.incarnations IS
    'The histories that this database has begun, each with a name and keys of its own. A further one '
    'begins where a ledger that is not what was signed was accepted as it is.';
COMMENT ON COLUMN public.incarnations.id IS 'Number of the incarnation: 1, 2, 3, ….';
COMMENT ON COLUMN public.incarnations.origin IS
    'Name of the log and of its keys (C2SP tlog-checkpoint), another one for each incarnation.';
COMMENT ON COLUMN public.incarnations.previous_checkpoint IS
    'The last signed note of the origin before. NULL for the first, and where none is known.';
COMMENT ON COLUMN public.incarnations.lifted_by IS
    'The LIFTED line of lockdowns by which it was accepted. NULL for the first.';
COMMENT ON COLUMN public.incarnations.security_event_id IS
    'The event that tells of it, of its keys and of the checkpoint before.';
COMMENT ON COLUMN public.incarnations.started_at IS 'When it began, by the database''s clock.';
COMMENT ON CONSTRAINT incarnations_pkey ON public.incarnations IS
    'A number is given once.';
COMMENT ON CONSTRAINT incarnations_origin_key ON public.incarnations IS
    'No name is used for two histories.';
COMMENT ON CONSTRAINT incarnations_lifted_by_key ON public.incarnations IS
    'A lift accepts one incarnation.';
COMMENT ON CONSTRAINT incarnations_lifted_by_fkey ON public.incarnations IS
    'lifted_by names a line of lockdowns.';
COMMENT ON CONSTRAINT incarnations_accepted ON public.incarnations IS
    'Every incarnation but the first was accepted by a lift.';
COMMENT ON CONSTRAINT incarnations_previous_size ON public.incarnations IS
    'A note has up to 1,000,000 bytes.';

COMMENT ON TABLE public.checkpoints IS
    'Every checkpoint that was signed: size and root of the log''s tree, as a signed note. Copies of '
    'them outside the database show whether the log is what it was.';
COMMENT ON COLUMN public.checkpoints.id IS 'Number of the checkpoint: 1, 2, 3, ….';
COMMENT ON COLUMN public.checkpoints.incarnation IS 'The incarnation whose keys signed it.';
COMMENT ON COLUMN public.checkpoints.tree_size IS 'Leaves of the tree.';
COMMENT ON COLUMN public.checkpoints.root_hash IS
    'The root over them (RFC 9162 section 2.1), 32 bytes.';
COMMENT ON COLUMN public.checkpoints.note IS
    'The signed note, byte for byte (C2SP tlog-checkpoint).';
COMMENT ON COLUMN public.checkpoints.signed_at IS 'When it was made, by the database''s clock.';
COMMENT ON CONSTRAINT checkpoints_pkey ON public.checkpoints IS 'A number is given once.';
COMMENT ON CONSTRAINT checkpoints_incarnation_fkey ON public.checkpoints IS
    'incarnation names an incarnation.';
COMMENT ON CONSTRAINT checkpoints_tree_size_range ON public.checkpoints IS
    'tree_size is a number of leaves that a log can have.';
COMMENT ON CONSTRAINT checkpoints_root_hash_size ON public.checkpoints IS
    'A SHA-256 hash has 32 bytes.';
COMMENT ON CONSTRAINT checkpoints_note_size ON public.checkpoints IS
    'A note has up to 1,000,000 bytes.';

COMMENT ON TABLE public.log_tiles IS
    'Full tiles of the log''s tree (C2SP tlog-tiles), from which proofs are made. Those at its right '
    'edge are made of ledger_log and of the roots here.';
COMMENT ON COLUMN public.log_tiles.incarnation IS 'The incarnation whose tree it is.';
COMMENT ON COLUMN public.log_tiles.level IS
    'Level of the tile: its hashes are of subtrees of 256^level leaves.';
COMMENT ON COLUMN public.log_tiles.index IS 'How many tiles of this level stand before it.';
COMMENT ON COLUMN public.log_tiles.hashes IS '256 hashes of 32 bytes, the leftmost first.';
COMMENT ON COLUMN public.log_tiles.root IS
    'The hash over all of them: one of the hashes of the level above.';
COMMENT ON CONSTRAINT log_tiles_pkey ON public.log_tiles IS 'A place has one tile.';
COMMENT ON CONSTRAINT log_tiles_level_range ON public.log_tiles IS
    'The levels that a log can come to.';
COMMENT ON CONSTRAINT log_tiles_index_range ON public.log_tiles IS
    'The places that a log can come to.';
COMMENT ON CONSTRAINT log_tiles_hashes_size ON public.log_tiles IS 'A full tile has 256 hashes.';
COMMENT ON CONSTRAINT log_tiles_root_size ON public.log_tiles IS 'A SHA-256 hash has 32 bytes.';

COMMENT ON TABLE public.anchor_receipts IS
    'What each anchor, a place outside the database, has confirmed to keep.';
COMMENT ON COLUMN public.anchor_receipts.id IS 'Number of the receipt, by a sequence.';
COMMENT ON SEQUENCE public.anchor_receipts_id_seq IS 'Numbers the lines of anchor_receipts.';
COMMENT ON COLUMN public.anchor_receipts.anchor IS
    'The anchor: its URL, without what is secret.';
COMMENT ON COLUMN public.anchor_receipts.checkpoint_id IS 'The checkpoint that it keeps.';
COMMENT ON COLUMN public.anchor_receipts.receipt IS
    'What it answered, where that proves something: a time stamp (RFC 3161, DER) or a cosignature '
    '(C2SP tlog-cosignature).';
COMMENT ON COLUMN public.anchor_receipts.confirmed_at IS
    'When that was recorded, by the database''s clock.';
COMMENT ON CONSTRAINT anchor_receipts_pkey ON public.anchor_receipts IS
    'A number is given once.';
COMMENT ON CONSTRAINT anchor_receipts_checkpoint_id_fkey ON public.anchor_receipts IS
    'checkpoint_id names a checkpoint.';
COMMENT ON CONSTRAINT anchor_receipts_receipt_size ON public.anchor_receipts IS
    'A receipt has up to 1 MiB.';
COMMENT ON INDEX public.anchor_receipts_anchor_idx IS
    'Finds the last checkpoint that an anchor keeps.';
