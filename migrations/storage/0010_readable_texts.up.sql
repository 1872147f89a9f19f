-- Every text of the element can be read, whatever bytes it holds. PostgreSQL does not check the texts of a
-- client that has the database's own encoding, and refuses to send a row with a byte that this encoding
-- does not define to one that reads UTF-8. Used where the database is not UTF-8.

-- part: transaction
-- A text in UTF-8, as bytes: each character without an equivalent is U+FFFD. A text of SQL_ASCII is in no
-- encoding that is known: its bytes, and the reader does the same with them. So is one of more than 4 MiB
-- that holds such a character, because it is only measured.
-- Not parallel safe: a block with an exception is a subtransaction.
create or replace function public.{prefix}_utf8(value text) returns bytea
language plpgsql
stable
strict
set search_path = pg_catalog, pg_temp
as $$
declare
    one text;
    odd text := '';
begin
    if getdatabaseencoding() = 'SQL_ASCII' then
        return convert_to(value, 'SQL_ASCII');
    end if;
    begin
        return convert_to(value, 'UTF8');
    exception when untranslatable_character or character_not_in_repertoire then
        if octet_length(value) > 4194304 then
            return convert_to(value, getdatabaseencoding());
        end if;
    end;
    -- Each character that occurs is tried once.
    for one in
        select distinct c.one collate "C" from unnest(string_to_array(value, null)) as c (one)
        where c.one collate "C" > chr(127)
    loop
        begin
            perform convert_to(one, 'UTF8');
        exception when untranslatable_character or character_not_in_repertoire then
            odd := odd || one;
        end;
    end loop;
    -- All of them become one of them, and the text is cut there.
    return (
        select string_agg(convert_to(p.part, 'UTF8'), decode('efbfbd', 'hex') order by p.place)
        from unnest(
            string_to_array(translate(value, odd, repeat(left(odd, 1), length(odd))), left(odd, 1))
        ) with ordinality as p (part, place)
    );
end
$$;

-- Whoever may read a text may read it so.
grant execute on function public.{prefix}_utf8(text) to public;
