-- Gives every finished row of the write-ahead log a position: the order in which the relay reads
-- them, and the number by which it knows whether one is still missing.

-- part: transaction
-- A moment: a column without a default changes the catalogue only.
alter table public.{prefix}_wal add column if not exists position bigint;

-- Not owned by the column: a number must never be drawn twice, so the sequence must not go, and
-- come back at 1, with the column or the table. `cache 1`: a session that kept numbers in reserve
-- would finish rows below ones that were read long ago. `no cycle`: better an error than a repeat.
create sequence if not exists public.{prefix}_wal_position_seq as bigint cache 1 no cycle;

-- Apart from one refusal this never raises: where finishing fails, the product throws the
-- uploaded file away.
-- `security definer`: a role that may write the table needs no right on the sequence, and so
-- can't draw or set numbers by itself. The fixed search_path is what makes that safe.
create or replace function public.{prefix}_wal_position() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'UPDATE' and old.status in ('committed', 'rolled_back', 'failed') then
        if new.status is distinct from old.status then
            raise exception
                'operation % is finished as %: its status can not become %',
                old.transaction_id, old.status, coalesce(new.status, 'null')
                using
                    errcode = 'integrity_constraint_violation',
                    hint = 'A finished operation has been published. Record a new operation instead.';
        end if;
        -- Published under this number: it keeps it, whatever the writer supplies.
        new.position := old.position;
        return new;
    end if;

    if new.status in ('committed', 'rolled_back', 'failed') then
        -- First the transaction's id, then the number. The other way round a transaction could
        -- hold a number while it is not yet among the running ones, and the relay would take
        -- the number for void.
        perform pg_catalog.pg_current_xact_id();
        -- Without a flush at commit a row could be seen, published, and then lost with the
        -- server. `local` to this transaction, and enough: it waits for our own disk.
        if pg_catalog.current_setting('synchronous_commit') = 'off' then
            perform pg_catalog.set_config('synchronous_commit', 'local', true);
        end if;
        new.position := pg_catalog.nextval('public.{prefix}_wal_position_seq'::pg_catalog.regclass);
    else
        new.position := null;
    end if;
    return new;
end
$$;

-- A trigger fires without this right; nobody has another use for the function.
revoke execute on function public.{prefix}_wal_position() from public;

-- part: transaction
-- Nobody may finish an operation between the numbering of the old rows and the trigger. Others may
-- read, and sit in a transaction that has read, as an upload does.
lock table public.{prefix}_wal in share row exclusive mode;
do $$
begin
    -- Numbered already, before a crash: the trigger has been at work since.
    if exists (
        select from pg_trigger
        where tgrelid = 'public.{prefix}_wal'::regclass and tgname = 'zzz_{prefix}_wal_position'
    ) then
        return;
    end if;

    -- Rows finished before there were positions: in the order in which they were finished, as far
    -- as it is known. The transaction id decides ties, so that the order is the same whenever it
    -- is done.
    update public.{prefix}_wal as wal
    set position = ordered.position
    from (
        select
            transaction_id,
            row_number() over (
                order by completed_at nulls last, started_at nulls last, transaction_id
            ) as position
        from public.{prefix}_wal
        where status in ('committed', 'rolled_back', 'failed')
    ) as ordered
    where wal.transaction_id = ordered.transaction_id;

    -- New numbers start above them. (An untouched sequence where there are none: the first is 1.)
    perform setval('public.{prefix}_wal_position_seq'::regclass, max(position), true)
    from public.{prefix}_wal
    having max(position) is not null;

    -- Triggers fire in byte order of their names: this one last, so that it sees the status as it
    -- will be stored.
    create trigger zzz_{prefix}_wal_position
    before insert or update on public.{prefix}_wal
    for each row execute function public.{prefix}_wal_position();

    -- `always`: also where a restore or a replication role has switched ordinary triggers off.
    alter table public.{prefix}_wal enable always trigger zzz_{prefix}_wal_position;
end
$$;

-- part: transaction
-- Whatever gets past the trigger fails loudly here instead of hiding a row from the relay.
alter table public.{prefix}_wal
    drop constraint if exists {prefix}_wal_position_when_finished,
    add constraint {prefix}_wal_position_when_finished
        check ((status in ('committed', 'rolled_back', 'failed')) = (position is not null)) not valid;

-- part: transaction
-- Reads the table while others write.
alter table public.{prefix}_wal validate constraint {prefix}_wal_position_when_finished;

-- part: concurrently
create unique index concurrently {prefix}_wal_position_key on public.{prefix}_wal (position)
where position is not null;
