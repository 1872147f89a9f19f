-- part: loses, the tables hold rows; back them up, and drop the database where all of it shall go
select 'audit_logs ' || id from public.audit_logs
union all
select 'jwt_keys ' || id from public.jwt_keys
union all
select 'storage_elements ' || id from public.storage_elements
union all
select 'service_accounts ' || id from public.service_accounts
union all
select 'users ' || id from public.users;

-- part: transaction
-- No `cascade`: what somebody else hung on these tables stops the step and is named.
drop table public.audit_logs;
drop table public.jwt_keys;
drop table public.storage_elements;
drop table public.service_accounts;
drop table public.users;

drop type public.storage_status_enum;
drop type public.storage_type_enum;
drop type public.storage_mode_enum;
drop type public.service_account_status_enum;
drop type public.service_account_role_enum;
drop type public.user_status_enum;
drop type public.user_role_enum;
