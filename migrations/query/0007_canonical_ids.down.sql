-- The ids stay canonical: they name the same files.
-- part: transaction
do $$
declare
    ours constant text :=
        'The file''s id, canonical (lower case). A soft reference to file_metadata_cache.id without a foreign key: the file may be gone.';
    comment_now constant text := (
        select col_description(attrelid, attnum) from pg_attribute
        where attrelid = 'public.download_statistics'::regclass and attname = 'file_id'
    );
begin
    if starts_with(comment_now, ours) then
        execute format(
            'comment on column public.download_statistics.file_id is %L',
            nullif(substr(comment_now, length(ours || E'\n\nBefore: ') + 1), '')
        );
    end if;
end
$$;
drop trigger if exists download_statistics_canonical_id on public.download_statistics;
drop trigger if exists file_metadata_cache_canonical_id on public.file_metadata_cache;
drop function if exists public.download_statistics_canonical_id();
drop function if exists public.file_metadata_cache_canonical_id();
drop function if exists public.artstore_canonical_id(text);
