-- Fills `search_vector` again: the product lost its trigger, and full-text search found nothing.
-- Not a generated column: the product sends an explicit NULL with every row, which a generated
-- column refuses.

-- part: transaction
-- The words of a file: A its name, B its description, C its tags.
-- * The name counts twice: as it is, and with ASCII punctuation as spaces, because the parser
--   takes `annual_report.pdf` for one word. Other punctuation separates words already.
-- * Cut, because to_tsvector fails above 1 MB of lexemes. A compound word is stored whole and in
--   parts, so a character can take 8 bytes: these limits together stay below 0.9 MB.
-- A body in SQL's own form is bound when it is created, so no search_path can change its meaning.
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

-- Metadata is free-form: it may be a number, a list, the JSON value null. Only strings in an
-- array under `tags` are tags; nothing else is an error.
create or replace function public.{prefix}_files_fill_search_vector() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tags_json jsonb;
    tag_words text[];
begin
    -- The words are those of the row, whatever vector the writer supplies.
    if tg_op = 'UPDATE'
        and old.search_vector is not null
        and new.search_vector is not null
        and new.original_filename is not distinct from old.original_filename
        and new.description is not distinct from old.description
        and new.metadata_json is not distinct from old.metadata_json
    then
        new.search_vector := old.search_vector;
        return new;
    end if;

    tags_json := new.metadata_json -> 'tags';
    if pg_catalog.jsonb_typeof(tags_json) = 'array' then
        select pg_catalog.array_agg(tag.value #>> '{}' order by tag.place)
        into tag_words
        from pg_catalog.jsonb_array_elements(tags_json) with ordinality as tag (value, place)
        where pg_catalog.jsonb_typeof(tag.value) = 'string';
    end if;
    new.search_vector := public.{prefix}_search_vector(
        new.original_filename, new.description, tag_words
    );
    return new;
end
$$;

create or replace trigger {prefix}_files_search_vector
before insert or update on public.{prefix}_files
for each row execute function public.{prefix}_files_fill_search_vector();

-- part: batched, public.{prefix}_files by file_id uuid
-- Existing rows: the trigger does it.
update public.{prefix}_files set search_vector = null where file_id = any($1::text[]::uuid[]);
