-- The keys of the locks that elect a projection's workers, and its one rebuild: a row each, made when it is first
-- needed. A number that anybody can know would be a lock that any role which may connect could hold for ever; whoever
-- may write here replaces a key that another role has taken.

-- part: transaction
create table if not exists public.projection_locks (
    name text not null,
    key bigint not null,
    replaced_at timestamptz,
    constraint projection_locks_pkey primary key (name)
);
revoke all on table public.projection_locks from public;
