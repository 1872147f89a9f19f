-- The entity `source` belongs to the relay: its records of a source itself have it. Rows that are
-- there already stay; they are published like any other event.

-- part: transaction
alter table public.event_outbox
    drop constraint if exists event_outbox_entity_not_reserved,
    add constraint event_outbox_entity_not_reserved check (entity <> 'source') not valid;
