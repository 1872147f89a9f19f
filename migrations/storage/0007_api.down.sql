-- part: loses, the element says where its API is reached; without it the relay takes the URL of ARTSTORE_ELEMENT_API_URLS
select 'API URL ' || coalesce(url, 'none') from public.{prefix}_api where set_at is not null order by id;

-- part: transaction
drop table if exists public.{prefix}_api;
