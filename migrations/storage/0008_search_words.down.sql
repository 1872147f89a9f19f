-- part: transaction
create or replace function public.{prefix}_search_vector(filename text, description text, tags text[])
returns tsvector
language sql
immutable
parallel safe
return
    setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig,
            coalesce(
                left(filename, 1000) || ' '
                || regexp_replace(left(filename, 1000), '[!-/:-@\[-`{-~]+', ' ', 'g'),
                ''
            )
        ),
        'A'
    )
    || setweight(
        to_tsvector('pg_catalog.russian'::regconfig, coalesce(left(description, 100000), '')), 'B'
    )
    || setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig, coalesce(left(array_to_string(tags, ' '), 10000), '')
        ),
        'C'
    );

drop function if exists public.{prefix}_search_text(text, integer);
drop function if exists public.{prefix}_search_parts(text);
drop function if exists public.{prefix}_search_cut(text);
drop function if exists public.{prefix}_search_fold(text);

-- part: batched, public.{prefix}_files by file_id uuid
update public.{prefix}_files set search_vector = null where file_id = any($1::text[]::uuid[]);
