-- Makes partial search (`ilike '%…%'`) use an index. It looks for the words in the name or in the
-- description: with an index on one of them alone the whole table would still be read.
--
-- What each index costs, in CPU time of 8,000 upserts with descriptions of 40 words (PostgreSQL 15):
-- the 13 of version 1 3.7 s, the 6 that step 9 leaves 3.3 s; then with both trigram indexes 6.5 s,
-- with the name's alone 3.9 s, with neither (and none on the name) 3.4 s; without the search
-- vector's 2.1 s; with the primary key alone 1.9 s. The description's is half of all: it is the
-- price of partial search in descriptions.

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
