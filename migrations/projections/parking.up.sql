-- Events that a projection can't apply are set aside, and what follows on them waits in order.

-- part: transaction
alter table public.projection_checkpoints
    -- Changes with whatever a worker must not remember wrongly: what is parked, a pause.
    add column if not exists generation bigint not null default 0,
    -- How many events one after another could not be applied.
    add column if not exists parks_in_row integer not null default 0;

create table if not exists public.projection_parked (
    projection text not null,
    stream text not null,
    stream_sequence bigint not null,
    -- What it is about: later events of the same key wait behind it.
    key uuid,
    event_id uuid,
    -- The message as it came.
    subject text not null,
    headers jsonb not null,
    body bytea not null,
    published_at timestamptz not null,
    -- Why it can't be applied; null: it waits behind another one.
    reason text,
    attempts integer not null default 0,
    parked_at timestamptz not null default clock_timestamp(),
    tried_at timestamptz,
    constraint projection_parked_pkey primary key (projection, stream, stream_sequence)
);
create index if not exists projection_parked_key
    on public.projection_parked (key, projection, stream, stream_sequence);

-- A projection that a person has stopped.
create table if not exists public.projection_pauses (
    projection text not null,
    reason text not null,
    operator jsonb not null,
    paused_at timestamptz not null default clock_timestamp(),
    constraint projection_pauses_pkey primary key (projection)
);
