-- The key of the lock that elects the relay of this outbox. A number that anybody can know would be a lock that any role
-- which may connect could hold for ever; whoever may write here replaces a key that another role has taken.

-- part: transaction
create table if not exists public.event_outbox_relay_lock (
    name text not null,
    key bigint not null,
    replaced_at timestamptz,
    constraint event_outbox_relay_lock_pkey primary key (name)
);
revoke all on table public.event_outbox_relay_lock from public;
-- 60 random bits.
insert into public.event_outbox_relay_lock (name, key)
values ('relay', ('x' || replace(left(gen_random_uuid()::text, 18), '-', ''))::bit(64)::bigint)
on conflict do nothing;
