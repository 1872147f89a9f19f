-- The element's own totals, and values that can be relied on.

-- part: refuse, rows of {prefix}_config are not the one row with id 1; keep the true one, with id 1
select 'id ' || id || ': current_mode ' || quote_literal(current_mode) from public.{prefix}_config
where id <> 1
order by {prefix}_config.id;

-- part: refuse, rows of {prefix}_config have a current_mode that is none of edit, rw, ro, ar; correct them
select 'id ' || id || ': current_mode ' || quote_literal(current_mode) from public.{prefix}_config
where current_mode not in ('edit', 'rw', 'ro', 'ar')
order by {prefix}_config.id;

-- part: refuse, rows of {prefix}_wal have a status that is none of pending, committed, rolled_back, failed; set it to what became of the operation
select transaction_id || ': status ' || quote_literal(status) || ', ' || operation_type
from public.{prefix}_wal
where status not in ('pending', 'committed', 'rolled_back', 'failed')
order by started_at;

-- part: transaction
-- Four bytes overflow at 2 GiB. One row: the table is written anew in no time.
alter table public.{prefix}_config
    alter column total_files type bigint,
    alter column total_size_bytes type bigint,
    drop constraint if exists {prefix}_config_single_row_check,
    drop constraint if exists {prefix}_config_current_mode_check,
    add constraint {prefix}_config_single_row_check check (id = 1),
    add constraint {prefix}_config_current_mode_check check (current_mode in ('edit', 'rw', 'ro', 'ar'));

-- part: transaction
-- None on operation_type: that is an open set.
alter table public.{prefix}_wal
    drop constraint if exists {prefix}_wal_status_check,
    add constraint {prefix}_wal_status_check
        check (status in ('pending', 'committed', 'rolled_back', 'failed')) not valid;

-- part: transaction
-- Reads the table while others write.
alter table public.{prefix}_wal validate constraint {prefix}_wal_status_check;
