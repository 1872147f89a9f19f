-- Ids of files stay text: the product reads these tables and binds text. They have one form, the
-- canonical one (lower case, with hyphens), so that a file is found whoever wrote it.

-- part: refuse, files of file_metadata_cache have the same id in different forms; delete all but one of each
select lower(replace(id, '-', '')) || ': ' || string_agg(id, ' and ' order by id)
from public.file_metadata_cache
where id ~* '^([0-9a-f]{4}-?){7}[0-9a-f]{4}$'
group by lower(replace(id, '-', ''))
having count(*) > 1;

-- part: transaction
-- What is no UUID stays as it is. A body in SQL's own form is bound when it is created.
create or replace function public.artstore_canonical_id(id text) returns text
language sql
immutable
parallel safe
return case when id ~* '^([0-9a-f]{4}-?){7}[0-9a-f]{4}$' then id::uuid::text else id end;

create or replace function public.file_metadata_cache_canonical_id() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    new.id := public.artstore_canonical_id(new.id);
    return new;
end
$$;

create or replace function public.download_statistics_canonical_id() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    new.file_id := public.artstore_canonical_id(new.file_id);
    return new;
end
$$;

create or replace trigger file_metadata_cache_canonical_id
before insert or update of id on public.file_metadata_cache
for each row
when (length(new.id) <> 36 or new.id <> lower(new.id))
execute function public.file_metadata_cache_canonical_id();

-- part: transaction
create or replace trigger download_statistics_canonical_id
before insert or update of file_id on public.download_statistics
for each row
when (length(new.file_id) <> 36 or new.file_id <> lower(new.file_id))
execute function public.download_statistics_canonical_id();

-- There is no foreign key and there can't be one: statistics outlive their file. A comment that is
-- there already (the product's says otherwise) is kept behind ours.
do $$
declare
    ours constant text :=
        'The file''s id, canonical (lower case). A soft reference to file_metadata_cache.id without a foreign key: the file may be gone.';
    theirs constant text := (
        select col_description(attrelid, attnum) from pg_attribute
        where attrelid = 'public.download_statistics'::regclass and attname = 'file_id'
    );
begin
    if theirs is null or not starts_with(theirs, ours) then
        execute format(
            'comment on column public.download_statistics.file_id is %L', concat_ws(E'\n\nBefore: ', ours, theirs)
        );
    end if;
end
$$;

-- part: batched, public.file_metadata_cache by id text
update public.file_metadata_cache set id = public.artstore_canonical_id(id)
where id = any($1::text[]) and id <> public.artstore_canonical_id(id);

-- part: batched, public.download_statistics by id bigint
update public.download_statistics set file_id = public.artstore_canonical_id(file_id)
where id = any($1::text[]::bigint[]) and file_id <> public.artstore_canonical_id(file_id);
