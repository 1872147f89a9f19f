-- part: transaction
drop function if exists public.event_outbox_utf8(text);
