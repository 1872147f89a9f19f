-- What makes the audit log provable: where each row comes from, its place in a chain and a tree,
-- and signed heads. Rows of the product have none of it (format 0): they stay as they are.

-- part: transaction
alter table public.audit_logs
    -- 0: the product's own form, which nothing can verify.
    add column if not exists format smallint not null default 0,
    -- The message that the row is of.
    add column if not exists stream text,
    add column if not exists stream_sequence bigint,
    add column if not exists event_id uuid,
    -- Which mapping made the row of the message.
    add column if not exists mapping integer,
    -- Which key signed it.
    add column if not exists kid text,
    -- A copy: no other table says who it was.
    add column if not exists actor_id text,
    add column if not exists actor_name text,
    add column if not exists actor_role text,
    -- From clients and publishers, of any length, and never a reason to lose the row. To `text`,
    -- which rewrites neither table nor index.
    alter column event_type type text,
    alter column resource_type type text,
    alter column resource_id type text,
    alter column action type text,
    alter column ip_address type text,
    alter column session_id type text;

alter table public.audit_logs
    drop constraint if exists audit_logs_evidence_check,
    add constraint audit_logs_evidence_check check (
        case when format = 0
            then num_nonnulls(stream, stream_sequence, mapping, kid) = 0
            else num_nonnulls(stream, stream_sequence, mapping, kid) = 4
        end
    ) not valid;

-- The tree over a stream's rows: how far it has come, in the transaction that writes the rows.
create table if not exists public.audit_trees (
    stream text not null,
    -- The log's name in every head: the signing key's name and the stream.
    origin text not null,
    size bigint not null,
    last_signature bytea not null,
    constraint audit_trees_pkey primary key (stream),
    constraint audit_trees_size_check check (size >= 0)
);

-- 256 hashes each, the last one of each level fewer.
create table if not exists public.audit_tiles (
    stream text not null,
    level smallint not null,
    tile bigint not null,
    hashes bytea not null,
    constraint audit_tiles_pkey primary key (stream, level, tile)
);

-- Signed notes, as they are published.
create table if not exists public.audit_heads (
    stream text not null,
    size bigint not null,
    note text not null,
    signed_at timestamptz not null default clock_timestamp(),
    constraint audit_heads_pkey primary key (stream, size)
);

-- The product's rows from before the log: every head covers their digest. One row.
create table if not exists public.audit_boundary (
    only_one boolean not null default true,
    rows bigint not null,
    last_id bigint not null,
    digest bytea not null,
    drawn_at timestamptz not null default clock_timestamp(),
    constraint audit_boundary_pkey primary key (only_one),
    constraint audit_boundary_only_one_check check (only_one)
);

-- How far a projection has read each stream, as in the query module's database.
create table if not exists public.projection_checkpoints (
    projection text not null,
    stream text not null,
    version integer not null,
    -- A stream that was made anew has the same name and other contents.
    stream_created_at timestamptz not null,
    last_sequence bigint not null,
    last_event_id uuid,
    -- The source's positions covered by last_sequence: all up to source_high but the missing.
    source_high bigint not null default 0,
    source_missing text not null default '',
    updated_at timestamptz not null default now(),
    constraint projection_checkpoints_pkey primary key (projection, stream),
    constraint projection_checkpoints_last_sequence_check check (last_sequence >= 0)
);

-- Against accidents. Who may drop a trigger is not stopped by it; the evidence is what counts.
create or replace function public.audit_logs_append_only() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- `artstore audit archive` removes rows that it has exported and verified.
    if tg_op = 'DELETE' and current_setting('artstore.audit_archive', true) = 'on' then
        return null;
    end if;
    raise exception 'audit_logs is append only: % is refused', tg_op
        using
            errcode = 'restrict_violation',
            hint = 'Its rows are signed. To remove old ones: artstore audit archive.';
end
$$;

revoke execute on function public.audit_logs_append_only() from public;

drop trigger if exists audit_logs_append_only on public.audit_logs;
create trigger audit_logs_append_only
before update or delete or truncate on public.audit_logs
for each statement execute function public.audit_logs_append_only();

-- `always`: also where a restore or a replication role has switched ordinary triggers off.
alter table public.audit_logs enable always trigger audit_logs_append_only;

-- part: transaction
-- Reads the table while others write.
alter table public.audit_logs validate constraint audit_logs_evidence_check;

-- part: concurrently
create unique index concurrently audit_logs_stream_key on public.audit_logs (stream, stream_sequence) where stream is not null;
-- A request id may be longer than an entry of a btree.
create index concurrently ix_audit_logs_request_id_hash on public.audit_logs using hash (request_id);
drop index concurrently if exists public.ix_audit_logs_request_id;
