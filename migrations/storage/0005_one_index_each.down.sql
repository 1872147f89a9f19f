-- part: concurrently
create index concurrently ix_{prefix}_files_file_id on public.{prefix}_files (file_id);
create index concurrently ix_{prefix}_files_created_by_id on public.{prefix}_files (created_by_id);
create index concurrently idx_{prefix}_filename on public.{prefix}_files (original_filename);
create index concurrently ix_{prefix}_wal_file_id on public.{prefix}_wal (file_id);
create index concurrently ix_{prefix}_wal_status on public.{prefix}_wal (status);
create index concurrently idx_{prefix}_metadata on public.{prefix}_files using gin (metadata_json);
create index concurrently idx_{prefix}_wal_data on public.{prefix}_wal using gin (operation_data);
