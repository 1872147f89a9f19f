-- part: loses, events are parked that no projection has applied; their streams still have them, and the read model stays without them until it is built again
select projection || ' in ' || stream || ', message ' || stream_sequence || ': '
    || coalesce(reason, 'waits behind another one of its key')
from public.projection_parked
order by projection, stream, stream_sequence;

-- part: transaction
drop table if exists public.projection_pauses;
drop table if exists public.projection_parked;
alter table public.projection_checkpoints
    drop column if exists generation,
    drop column if exists parks_in_row;
