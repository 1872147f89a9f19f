-- part: loses, the projections know how far they have read and which element a file lives on; projecting the streams again from their start brings it back, and doubles searches and downloads unless they are deleted first
select 'checkpoint of ' || projection || ' in ' || stream || ' at ' || last_sequence
from public.projection_checkpoints
union all
select 'owner of file ' || file_id || ': ' || element from public.file_ownership;

-- part: transaction
drop table public.file_ownership;
drop table public.projection_checkpoints;
