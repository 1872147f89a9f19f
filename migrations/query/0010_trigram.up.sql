-- Makes partial search (`ilike '%…%'`) use an index. It looks for the words in the name or in the
-- description: with an index on one of them alone the whole table would still be read.
--
-- The description's is the dearest of all indexes of this table: about 40% of the CPU time of an
-- upsert with a description of 40 words. It is the price of partial search in descriptions.

-- part: transaction
-- A role without the right, or a server without the extension, is no reason to stop.
do $$
begin
    if exists (select from pg_extension where extname = 'pg_trgm') then
        return;
    end if;
    create extension pg_trgm schema public;
    -- So that the step down knows whose it is.
    comment on extension pg_trgm is 'text similarity measurement and index searching based on trigrams (created by artstore migrate)';
exception
    when insufficient_privilege or feature_not_supported or undefined_file then
        raise warning 'extension pg_trgm could not be created (%): partial search will read the whole cache. Have it installed, and created by a superuser with: create extension pg_trgm schema public; then: artstore migrate redo --module query', sqlerrm;
end
$$;

-- part: concurrently, with extension pg_trgm
create index concurrently idx_file_metadata_filename_trgm
    on public.file_metadata_cache using gin (filename gin_trgm_ops);
create index concurrently idx_file_metadata_description_trgm
    on public.file_metadata_cache using gin (description gin_trgm_ops);
