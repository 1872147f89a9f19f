-- Remembers how far finished operations were pruned: the stream is then the only one that tells of them, and a relay
-- has to know that.

-- part: transaction
-- One row. Every finished operation at or below the floor was removed by `artstore wal prune`, in the transaction
-- that raised the floor, after the stream was shown to hold it.
create table if not exists public.{prefix}_wal_pruned (
    id smallint not null default 1,
    floor bigint not null default 0,
    operations bigint not null default 0,
    pruned_at timestamptz,
    constraint {prefix}_wal_pruned_pkey primary key (id),
    constraint {prefix}_wal_pruned_single_row_check check (id = 1),
    constraint {prefix}_wal_pruned_floor_check check (floor >= 0 and operations >= 0)
);
insert into public.{prefix}_wal_pruned default values on conflict do nothing;

-- No secret, and everybody who compares the log with its stream has to know it.
grant select on public.{prefix}_wal_pruned to public;
