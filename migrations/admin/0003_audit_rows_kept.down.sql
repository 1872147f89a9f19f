-- part: refuse, rows of audit_logs have a request_id of more than 36 characters; they are signed and can't be cut: keep this version, or move them to an archive
select 'id ' || id || ': ' || length(request_id) || ' characters, ' || left(request_id, 40)
from public.audit_logs
where length(request_id) > 36
order by id;

-- part: refuse, rows of audit_logs name users or service accounts that are no longer there; they are signed and can't be changed: keep this version, or move them to an archive
select 'id ' || log.id || ': user_id ' || coalesce(log.user_id::text, 'null')
    || ', service_account_id ' || coalesce(log.service_account_id::text, 'null')
from public.audit_logs as log
where (
        log.user_id is not null
        and not exists (select from public.users where users.id = log.user_id)
    )
    or (
        log.service_account_id is not null
        and not exists (select from public.service_accounts as account where account.id = log.service_account_id)
    )
order by log.id;

-- part: transaction
alter table public.audit_logs
    drop constraint if exists audit_logs_user_id_fkey,
    drop constraint if exists audit_logs_service_account_id_fkey,
    drop constraint if exists audit_logs_severity_check,
    drop constraint if exists audit_logs_actor_type_check,
    alter column request_id type varchar(36);
alter table public.audit_logs
    add constraint audit_logs_user_id_fkey
        foreign key (user_id) references public.users (id) on delete set null not valid,
    add constraint audit_logs_service_account_id_fkey
        foreign key (service_account_id) references public.service_accounts (id) on delete set null not valid;

-- part: transaction
alter table public.audit_logs validate constraint audit_logs_user_id_fkey;
alter table public.audit_logs validate constraint audit_logs_service_account_id_fkey;
