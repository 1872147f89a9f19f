-- One index for each question. Where an index is the beginning of a longer one, the longer one
-- answers for both; of two equal ones, the one named after its column stays, as most are.

-- part: concurrently
-- {prefix}_files_pkey
drop index concurrently if exists public.ix_{prefix}_files_file_id;
-- idx_{prefix}_user_date (created_by_id, created_at)
drop index concurrently if exists public.ix_{prefix}_files_created_by_id;
-- ix_{prefix}_files_original_filename is equal
drop index concurrently if exists public.idx_{prefix}_filename;
-- idx_{prefix}_wal_file (file_id, started_at)
drop index concurrently if exists public.ix_{prefix}_wal_file_id;
-- idx_{prefix}_wal_status_time (status, started_at)
drop index concurrently if exists public.ix_{prefix}_wal_status;
-- No query looks into these documents; each write pays for it.
drop index concurrently if exists public.idx_{prefix}_metadata;
drop index concurrently if exists public.idx_{prefix}_wal_data;
