-- Names are found as people write them, whatever form the letters have: `report.pdf` finds
-- `annual_report.pdf`, a name from a Mac (decomposed letters) is found by one from a keyboard (composed).
-- Rows stay as they are; what is compared is brought into one form on both sides.

-- part: refuse, the database is not UTF-8, and PostgreSQL compares composed and decomposed letters there only; move it into one with encoding UTF8 (pg_dump, createdb --encoding UTF8 --template template0, restore), or keep this version
select 'encoding ' || getdatabaseencoding() from pg_catalog.pg_database
where datname = current_database() and getdatabaseencoding() <> 'UTF8'
order by datname;

-- part: transaction
-- Texts as they are compared: NFKC (one form of composed letters, of ligatures, of wide digits), and `ё` is `е`.
-- Where the database is not UTF-8, PostgreSQL knows no normal forms: the text stays.
create or replace function public.artstore_search_fold(text text) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if getdatabaseencoding() <> 'UTF8' then
        return text;
    end if;
    return translate(
        case when text is nfkc normalized then text else normalize(text, NFKC) end,
        chr(1105) || chr(1025), chr(1077) || chr(1045)
    );
end
$$;

-- Words end at ASCII punctuation; other punctuation ends them for the parser already.
create or replace function public.artstore_search_cut(text text) returns text
language sql
immutable
strict
parallel safe
return regexp_replace(text, '[!-/:-@\[-`{-~]+', ' ', 'g');

-- And where small letters meet capitals, and letters meet digits: `annualReport2026` is three words.
create or replace function public.artstore_search_parts(text text) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if getdatabaseencoding() <> 'UTF8' then
        return regexp_replace(
            text,
            '(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-zA-Z])(?=[0-9])|(?<=[0-9])(?=[a-zA-Z])',
            ' ', 'g'
        );
    end if;
    return regexp_replace(
        text,
        '(?<=[a-z\u0430-\u044f])(?=[A-Z\u0410-\u042f])'
        || '|(?<=[A-Z\u0410-\u042f])(?=[A-Z\u0410-\u042f][a-z\u0430-\u044f])'
        || '|(?<=[a-zA-Z\u0410-\u044f])(?=[0-9])|(?<=[0-9])(?=[a-zA-Z\u0410-\u044f])',
        ' ', 'g'
    );
end
$$;

-- A text in the forms in which it is indexed, one behind the other: compounds as they stand (the product asks
-- for them so), all words, and, where any differ, their parts. Compounds and parts are those of the first
-- `twice` characters. Questions are cut by the same functions.
create or replace function public.artstore_search_text(text text, twice integer) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    folded constant text := left(public.artstore_search_fold(text), 100000);
    head constant text := left(folded, twice);
    cut constant text := public.artstore_search_cut(head);
    parts constant text := public.artstore_search_parts(cut);
    compounds text;
begin
    if head ~ '[^\s!-/:-@\[-`{-~][!-/:-@\[-`{-~]+[^\s!-/:-@\[-`{-~]' then
        compounds := (
            select string_agg(word, ' ' order by place)
            from regexp_split_to_table(head, '\s+') with ordinality as w (word, place)
            where word ~ '[^!-/:-@\[-`{-~][!-/:-@\[-`{-~]+[^!-/:-@\[-`{-~]'
        );
    end if;
    return coalesce(compounds || ' ', '')
        || public.artstore_search_cut(folded)
        || case when parts <> cut then ' ' || parts else '' end;
end
$$;

-- The words of a file: A its name, B its description, C its tags.
-- * Cut, because to_tsvector fails above 1 MB of lexemes. A character takes 4 bytes at most, and those of the
--   first part of a text 12: these limits together stay below 0.8 MB.
create or replace function public.artstore_search_vector(filename text, description text, tags text[])
returns tsvector
language sql
immutable
parallel safe
return
    setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig,
            coalesce(public.artstore_search_text(left(filename, 1000), 1000), '')
        ),
        'A'
    )
    || setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig,
            coalesce(public.artstore_search_text(left(description, 100000), 30000), '')
        ),
        'B'
    )
    || setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig,
            coalesce(public.artstore_search_text(left(array_to_string(tags, ' '), 10000), 10000), '')
        ),
        'C'
    );

-- A word of a question, or a phrase of it, as it is looked for. The notice that a word is too common to be
-- looked for is for psql.
create or replace function public.artstore_search_query(text text) returns tsquery
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
set client_min_messages = error
as $$
declare
    cut constant text := public.artstore_search_cut(public.artstore_search_fold(text));
    parts constant text := public.artstore_search_parts(cut);
    words constant tsquery := phraseto_tsquery('pg_catalog.russian'::regconfig, cut);
begin
    if parts = cut then
        return words;
    end if;
    return words || phraseto_tsquery('pg_catalog.russian'::regconfig, parts);
end
$$;

create or replace function public.artstore_nfc(tags text[]) returns text[]
language sql
immutable
strict
parallel safe
return array(
    select normalize(t.tag, NFC) from unnest(tags) with ordinality as t (tag, place) order by t.place
);

-- part: concurrently
-- Rows with letters in another form than NFC. The ordinary indexes answer for all others, so these are small
-- and cost nothing where there are none. A composed text may be longer than an entry of a btree.
create index concurrently idx_file_metadata_filename_nfc
    on public.file_metadata_cache using spgist (normalize(filename, NFC))
    where filename is not nfc normalized;
create index concurrently idx_file_metadata_username_nfc
    on public.file_metadata_cache using spgist (normalize(username, NFC))
    where username is not nfc normalized;
create index concurrently idx_file_metadata_tags_nfc
    on public.file_metadata_cache using gin (public.artstore_nfc(tags::text[]))
    where public.artstore_nfc(tags::text[]) <> tags::text[];

-- part: concurrently, with extension pg_trgm
create index concurrently idx_file_metadata_filename_nfc_trgm
    on public.file_metadata_cache using gin (normalize(filename, NFC) gin_trgm_ops)
    where filename is not nfc normalized;
create index concurrently idx_file_metadata_description_nfc_trgm
    on public.file_metadata_cache using gin (normalize(description, NFC) gin_trgm_ops)
    where description is not nfc normalized;

-- part: batched, public.file_metadata_cache by id text
-- Existing rows: the trigger does it.
update public.file_metadata_cache set search_vector = null where id = any($1::text[]);
