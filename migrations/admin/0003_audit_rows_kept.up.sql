-- No row of the audit log is changed or refused because of something else.

-- Known values only, first as a condition for new rows, so that nobody waits while old ones are
-- read. None is changed here: they are signed.
-- part: refuse, rows of audit_logs have a severity that is none of debug, info, warning, error, critical; see what wrote them and correct them, or keep this version
select 'id ' || id || ': severity ' || quote_literal(severity) || ', ' || event_type
from public.audit_logs
where severity not in ('debug', 'info', 'warning', 'error', 'critical')
order by id;

-- part: refuse, rows of audit_logs have an actor_type that is none of user, service_account, system; see what wrote them and correct them, or keep this version
select 'id ' || id || ': actor_type ' || quote_literal(actor_type) || ', ' || event_type
from public.audit_logs
where actor_type not in ('user', 'service_account', 'system')
order by id;

-- part: transaction
-- `on delete set null` edits rows that are signed: whoever deletes a user changes what the log says
-- of that user. The ids stay as a copy of who it was. All of them, whatever name they go by in an
-- installation that was adopted.
do $$
declare
    reference text;
begin
    for reference in
        select conname from pg_constraint
        where conrelid = 'public.audit_logs'::regclass and contype = 'f'
    loop
        execute format('alter table public.audit_logs drop constraint %I', reference);
    end loop;
end
$$;

alter table public.audit_logs
    -- From a header that the client writes: of any length, and never a reason to lose the row.
    -- To `text`, which rewrites neither table nor index.
    alter column request_id type text;

alter table public.audit_logs
    drop constraint if exists audit_logs_severity_check,
    drop constraint if exists audit_logs_actor_type_check,
    add constraint audit_logs_severity_check
        check (severity in ('debug', 'info', 'warning', 'error', 'critical')) not valid,
    add constraint audit_logs_actor_type_check
        check (actor_type in ('user', 'service_account', 'system')) not valid;

-- part: transaction
-- Reads the table while others write.
alter table public.audit_logs validate constraint audit_logs_severity_check;
alter table public.audit_logs validate constraint audit_logs_actor_type_check;
