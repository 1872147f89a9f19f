-- part: refuse, totals in {prefix}_config are beyond four bytes (2147483647); keep this version
select 'total_files ' || total_files || ', total_size_bytes ' || total_size_bytes
from public.{prefix}_config
where total_files > 2147483647 or total_size_bytes > 2147483647;

-- part: transaction
alter table public.{prefix}_wal drop constraint if exists {prefix}_wal_status_check;

-- part: transaction
alter table public.{prefix}_config
    drop constraint if exists {prefix}_config_current_mode_check,
    drop constraint if exists {prefix}_config_single_row_check,
    alter column total_size_bytes type integer,
    alter column total_files type integer;
