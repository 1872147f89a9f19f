-- The key of the lock that elects this element's relay. A number that anybody can know would be a lock that any role
-- which may connect could hold for ever; whoever may write here replaces a key that another role has taken.

-- part: transaction
create table if not exists public.{prefix}_relay_lock (
    name text not null,
    key bigint not null,
    replaced_at timestamptz,
    constraint {prefix}_relay_lock_pkey primary key (name)
);
revoke all on table public.{prefix}_relay_lock from public;
-- 60 random bits.
insert into public.{prefix}_relay_lock (name, key)
values ('relay', ('x' || replace(left(gen_random_uuid()::text, 18), '-', ''))::bit(64)::bigint)
on conflict do nothing;
