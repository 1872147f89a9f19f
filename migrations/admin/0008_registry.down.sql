-- part: loses, the numbers of storage elements are no longer kept; the streams have them, and a projector brings them back
select 'element ' || element || ': ' || files || ' files, ' || bytes || ' bytes'
from public.registry_elements
order by element;

-- part: transaction
drop table if exists public.registry_elements;
drop table if exists public.registry_files;
delete from public.projection_checkpoints where projection = 'element-registry';
alter table public.storage_elements drop column if exists last_event_at;
