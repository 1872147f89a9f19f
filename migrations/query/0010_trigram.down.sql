-- part: concurrently
drop index concurrently if exists public.idx_file_metadata_filename_trgm;
drop index concurrently if exists public.idx_file_metadata_description_trgm;

-- part: transaction
-- Only the extension that we made, and only where nothing else has come to use it.
do $$
begin
    if exists (
        select from pg_extension
        where extname = 'pg_trgm'
            and obj_description(oid, 'pg_extension') like '%(created by artstore migrate)'
    ) then
        begin
            drop extension pg_trgm;
        exception
            when dependent_objects_still_exist then
                raise warning 'extension pg_trgm stays: others have come to use it';
                comment on extension pg_trgm is 'text similarity measurement and index searching based on trigrams';
        end;
    end if;
end
$$;
