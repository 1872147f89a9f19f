-- part: transaction
drop table if exists public.event_outbox_relay_lock;
