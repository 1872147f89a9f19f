-- A finished operation has been published: its row does not change any more.

-- part: transaction
-- Never asked where an operation is being finished: the row is pending before. The status has a
-- refusal of its own, and the position is the trigger's.
create or replace function public.{prefix}_wal_finished_unchanged() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'operation % is finished as %: its row can not be changed',
        old.transaction_id, old.status
        using
            errcode = 'integrity_constraint_violation',
            hint = 'A finished operation has been published. Record a new operation instead.';
end
$$;

-- A trigger fires without this right; nobody has another use for the function.
revoke execute on function public.{prefix}_wal_finished_unchanged() from public;

drop trigger if exists {prefix}_wal_finished_unchanged on public.{prefix}_wal;
create trigger {prefix}_wal_finished_unchanged
before update on public.{prefix}_wal
for each row
when (
    old.status in ('committed', 'rolled_back', 'failed')
    and new.status is not distinct from old.status
    and (
        new.transaction_id, new.operation_type, new.file_id, new.operation_data, new.error_message,
        new.started_at, new.completed_at, new.duration_ms, new.user_id
    ) is distinct from (
        old.transaction_id, old.operation_type, old.file_id, old.operation_data, old.error_message,
        old.started_at, old.completed_at, old.duration_ms, old.user_id
    )
)
execute function public.{prefix}_wal_finished_unchanged();

-- `always`: also where a restore or a replication role has switched ordinary triggers off.
alter table public.{prefix}_wal enable always trigger {prefix}_wal_finished_unchanged;
