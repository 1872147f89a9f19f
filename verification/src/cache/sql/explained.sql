-- Parked events of the query cache, and events that were given up behind which nothing of their file was applied: key,
-- event, what is said of it, and what mends it. $1: files and events. The first one of a file counts: a parked one
-- before one that was given up.
select key,
       event_id,
       said,
       mend
from (
    select key, event_id, stream, stream_sequence, 1 as rank,
           format('parked since message %s of %s', stream_sequence, stream) as said,
           'artstore parked retry' || coalesce(' --key ' || key, '') as mend
    from public.projection_parked
    where projection = 'query-cache' and (key = any($1) or event_id = any($1))
    union all
    select key, event_id, stream, stream_sequence, 2,
           format('message %s of %s was given up (artstore parked discard): %s', stream_sequence, stream, reason),
           'nothing has to be done: its next event is applied as any other'
    from public.projection_discarded d
    where projection = 'query-cache' and (key = any($1) or event_id = any($1))
      and not exists (
          select from public.file_ownership o
          where o.file_id = d.key and 'ARTSTORE_WAL_' || o.element = d.stream
            and o.stream_sequence > d.stream_sequence
      )
) as explained
order by rank, stream, stream_sequence
