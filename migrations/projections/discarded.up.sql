-- Events that an operator gave up: no projection applies them, whatever tables it fills.

-- part: transaction
create table if not exists public.projection_discarded (
    projection text not null,
    stream text not null,
    stream_sequence bigint not null,
    key uuid,
    -- In a stream that was made anew another event stands at the same sequence: that one is applied.
    event_id uuid,
    reason text not null,
    discarded_at timestamptz not null default clock_timestamp(),
    constraint projection_discarded_pkey primary key (projection, stream, stream_sequence)
);
