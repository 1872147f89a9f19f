-- Fills `search_vector`. Our projector supplies it in its own statement, by calling the function;
-- triggers fill it for other writers. Not a generated column: the product sends an explicit NULL.

-- part: transaction
-- The words of a file: A its name, B its description, C its tags.
-- * The name counts twice: as it is, and with ASCII punctuation as spaces, because the parser
--   takes `annual_report.pdf` for one word. Other punctuation separates words already.
-- * Cut, because to_tsvector fails above 1 MB of lexemes. A compound word is stored whole and in
--   parts, so a character can take 8 bytes: these limits together stay below 0.9 MB.
-- A body in SQL's own form is bound when it is created, so no search_path can change its meaning.
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

create or replace function public.file_metadata_cache_fill_search_vector() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    new.search_vector := public.artstore_search_vector(new.filename, new.description, new.tags);
    return new;
end
$$;

create or replace trigger file_metadata_cache_search_vector
before insert or update on public.file_metadata_cache
for each row
when (new.search_vector is null)
execute function public.file_metadata_cache_fill_search_vector();

-- The product's update names only the columns that it changes: the old vector would stay and
-- the file be found by words that it no longer has. A writer that supplies a new one is left alone.
create or replace trigger file_metadata_cache_search_vector_stale
before update on public.file_metadata_cache
for each row
when (
    (
        new.filename is distinct from old.filename
        or new.description is distinct from old.description
        or new.tags is distinct from old.tags
    )
    and new.search_vector is not distinct from old.search_vector
)
execute function public.file_metadata_cache_fill_search_vector();

-- part: batched, public.file_metadata_cache by id text
-- Existing rows: the trigger does it.
update public.file_metadata_cache set search_vector = null where id = any($1::text[]);
