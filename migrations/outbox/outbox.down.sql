-- part: loses, event_outbox holds events; those that no relay has published are gone with it, and a relay takes an outbox that is made anew for one that was set back
select 'position ' || position || ': ' || entity || ' ' || action || ', ' || event_id
from public.event_outbox
order by event_outbox.position;

-- part: transaction
drop table public.event_outbox;
drop function public.event_outbox_insert_only();
drop function public.event_outbox_position();
drop sequence public.event_outbox_position_seq;
