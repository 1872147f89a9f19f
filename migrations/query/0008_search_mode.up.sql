-- Known modes only, for the rows that the product writes. A row of an event is shown as the event
-- says: refusing it here would stop the projection for what somebody else has published.

-- part: refuse, rows of search_history have a search_mode that is none of exact, partial, fulltext; correct or delete them
select 'id ' || id || ': search_mode ' || quote_literal(left(search_mode, 60)) || ', ' || created_at
from public.search_history
where event_id is null and search_mode not in ('exact', 'partial', 'fulltext')
order by search_history.id;

-- part: transaction
alter table public.search_history
    drop constraint if exists search_history_search_mode_check,
    add constraint search_history_search_mode_check
        check (event_id is not null or search_mode in ('exact', 'partial', 'fulltext')) not valid;

-- part: transaction
alter table public.search_history validate constraint search_history_search_mode_check;
