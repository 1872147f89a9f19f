-- Where the element's API is reached, as events and the cache say it. It is a fact of the element, so it
-- stands here and in no process: whoever publishes says the same.

-- part: transaction
-- One row. Nobody has set it: set_at is null. Set to none: url is null.
create table if not exists public.{prefix}_api (
    id smallint not null default 1,
    url text,
    set_at timestamptz,
    constraint {prefix}_api_pkey primary key (id),
    constraint {prefix}_api_single_row_check check (id = 1),
    -- It rides on every message.
    constraint {prefix}_api_url_check check (url is null or octet_length(url) between 1 and 1500 and set_at is not null)
);
insert into public.{prefix}_api default values on conflict do nothing;

-- No secret, and everybody who publishes or checks has to know it.
grant select on public.{prefix}_api to public;
