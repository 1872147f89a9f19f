-- part: transaction
drop trigger if exists event_outbox_database_role on public.event_outbox;
drop function if exists public.event_outbox_database_role();
alter table public.event_outbox drop column if exists database_role;
