-- What the projectors remember beside the rows they write.

-- How far a projection has read each stream. The row is changed in the transaction that writes
-- the projection's rows, by compare-and-set on last_sequence: two workers can't both go on.
create table public.projection_checkpoints (
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

-- Which element a file lives on, also after its deletion: the claim with the latest creation wins,
-- so the result does not depend on how the streams interleave.
create table public.file_ownership (
    file_id uuid not null,
    created_at timestamptz not null,
    -- Compared between equal claims, so in byte order, whatever the database's locale.
    element text collate "C" not null,
    deleted boolean not null,
    stream_sequence bigint not null,
    constraint file_ownership_pkey primary key (file_id)
);
