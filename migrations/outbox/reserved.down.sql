-- part: transaction
alter table public.event_outbox drop constraint if exists event_outbox_entity_not_reserved;
