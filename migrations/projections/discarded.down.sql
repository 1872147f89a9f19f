-- part: loses, it is remembered which events were given up; without it the next rebuild parks or applies them again
select projection || ' in ' || stream || ', message ' || stream_sequence || ': ' || reason
from public.projection_discarded
order by projection, stream, stream_sequence;

-- part: transaction
drop table if exists public.projection_discarded;
