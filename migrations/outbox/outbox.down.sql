-- Events that no relay has read are lost with the table.
drop table public.event_outbox;
drop function public.event_outbox_insert_only();
drop function public.event_outbox_position();
drop sequence public.event_outbox_position_seq;
