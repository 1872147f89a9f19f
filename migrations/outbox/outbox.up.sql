-- Where a module that has no write-ahead log publishes: it inserts a row in the transaction of its
-- change, and the relay does the rest. The admin and the query module have the same one.

create table public.event_outbox (
    event_id uuid not null,
    -- Both become tokens of the subject.
    entity text not null,
    action text not null,
    -- Events of one key keep their order in one partition.
    ordering_key uuid,
    subject text,
    data jsonb not null,
    actor jsonb not null,
    request_id text,
    traceparent text,
    -- The wall clock, not the transaction's start, which may be long before.
    occurred_at timestamptz not null default clock_timestamp(),
    position bigint,
    constraint event_outbox_pkey primary key (event_id),
    constraint event_outbox_entity_check check (entity ~ '^[a-z0-9-]{1,100}$'),
    constraint event_outbox_action_check check (action ~ '^[a-z0-9-]{1,100}$'),
    -- Whatever gets past the trigger fails loudly here instead of hiding a row from the relay.
    -- (A writer may leave the column out: the trigger has filled it by then.)
    constraint event_outbox_position_assigned check (position is not null)
);

create unique index event_outbox_position_key on public.event_outbox (position)
where position is not null;

-- Not owned by the column: a number must never be drawn twice, so the sequence must not go, and
-- come back at 1, with the column or the table. `cache 1`: a session that kept numbers in reserve
-- would insert rows below ones that were read long ago. `no cycle`: better an error than a repeat.
create sequence public.event_outbox_position_seq as bigint cache 1 no cycle;

-- `security definer`: a role that may insert needs no right on the sequence, and so can't draw or
-- set numbers by itself. The fixed search_path is what makes that safe.
create function public.event_outbox_position() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- First the transaction's id, then the number. The other way round a transaction could hold
    -- a number while it is not yet among the running ones, and the relay would take the number
    -- for void.
    perform pg_catalog.pg_current_xact_id();
    -- Without a flush at commit a row could be seen, published, and then lost with the server.
    -- `local` to this transaction, and enough: it waits for our own disk.
    if pg_catalog.current_setting('synchronous_commit') = 'off' then
        perform pg_catalog.set_config('synchronous_commit', 'local', true);
    end if;
    -- A supplied number is ignored.
    new.position := pg_catalog.nextval('public.event_outbox_position_seq'::pg_catalog.regclass);
    return new;
end
$$;

create function public.event_outbox_insert_only() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'event_outbox is insert only: % is refused', tg_op
        using
            errcode = 'restrict_violation',
            hint = 'Its rows are events that may have been published. Insert a new event instead.';
end
$$;

-- A trigger fires without this right; nobody has another use for the functions.
revoke execute on function public.event_outbox_position() from public;
revoke execute on function public.event_outbox_insert_only() from public;

-- Triggers fire in byte order of their names: this one last.
create trigger zzz_event_outbox_position
before insert on public.event_outbox
for each row execute function public.event_outbox_position();

create trigger event_outbox_insert_only
before update or delete on public.event_outbox
for each row execute function public.event_outbox_insert_only();

create trigger event_outbox_no_truncate
before truncate on public.event_outbox
for each statement execute function public.event_outbox_insert_only();

-- `always`: also where a restore or a replication role has switched ordinary triggers off.
alter table public.event_outbox enable always trigger zzz_event_outbox_position;
alter table public.event_outbox enable always trigger event_outbox_insert_only;
alter table public.event_outbox enable always trigger event_outbox_no_truncate;
