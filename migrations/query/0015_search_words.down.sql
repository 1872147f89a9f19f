-- part: transaction
create or replace function public.artstore_search_vector(filename text, description text, tags text[])
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

drop index if exists public.idx_file_metadata_tags_nfc;
drop function if exists public.artstore_nfc(text[]);
drop function if exists public.artstore_search_query(text);
drop function if exists public.artstore_search_text(text, integer);
drop function if exists public.artstore_search_parts(text);
drop function if exists public.artstore_search_cut(text);
drop function if exists public.artstore_search_fold(text);

-- part: concurrently
drop index concurrently if exists public.idx_file_metadata_filename_nfc;
drop index concurrently if exists public.idx_file_metadata_username_nfc;
drop index concurrently if exists public.idx_file_metadata_filename_nfc_trgm;
drop index concurrently if exists public.idx_file_metadata_description_nfc_trgm;

-- part: batched, public.file_metadata_cache by id text
update public.file_metadata_cache set search_vector = null where id = any($1::text[]);
