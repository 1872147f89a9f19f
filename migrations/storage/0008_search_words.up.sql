-- The words of a file, as the cache has them: names are cut at punctuation, capitals and digits, and letters
-- have one form.

-- part: transaction
-- Texts as they are compared: NFKC (one form of composed letters, of ligatures, of wide digits), and `ё` is `е`.
-- Where the database is not UTF-8, PostgreSQL knows no normal forms: the text stays.
create or replace function public.{prefix}_search_fold(text text) returns text
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
create or replace function public.{prefix}_search_cut(text text) returns text
language sql
immutable
strict
parallel safe
return regexp_replace(text, '[!-/:-@\[-`{-~]+', ' ', 'g');

-- And where small letters meet capitals, and letters meet digits: `annualReport2026` is three words.
create or replace function public.{prefix}_search_parts(text text) returns text
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
create or replace function public.{prefix}_search_text(text text, twice integer) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    folded constant text := left(public.{prefix}_search_fold(text), 100000);
    head constant text := left(folded, twice);
    cut constant text := public.{prefix}_search_cut(head);
    parts constant text := public.{prefix}_search_parts(cut);
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
        || public.{prefix}_search_cut(folded)
        || case when parts <> cut then ' ' || parts else '' end;
end
$$;

-- The words of a file: A its name, B its description, C its tags.
-- * Cut, because to_tsvector fails above 1 MB of lexemes. A character takes 4 bytes at most, and those of the
--   first part of a text 12: these limits together stay below 0.8 MB.
create or replace function public.{prefix}_search_vector(filename text, description text, tags text[])
returns tsvector
language sql
immutable
parallel safe
return
    setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig,
            coalesce(public.{prefix}_search_text(left(filename, 1000), 1000), '')
        ),
        'A'
    )
    || setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig,
            coalesce(public.{prefix}_search_text(left(description, 100000), 30000), '')
        ),
        'B'
    )
    || setweight(
        to_tsvector(
            'pg_catalog.russian'::regconfig,
            coalesce(public.{prefix}_search_text(left(array_to_string(tags, ' '), 10000), 10000), '')
        ),
        'C'
    );

-- part: batched, public.{prefix}_files by file_id uuid
-- Existing rows: the trigger does it.
update public.{prefix}_files set search_vector = null where file_id = any($1::text[]::uuid[]);
