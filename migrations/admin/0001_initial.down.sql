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
