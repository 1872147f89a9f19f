-- part: concurrently
create unique index concurrently ix_users_username on public.users (username);
create unique index concurrently ix_users_email on public.users (email);
create index concurrently idx_user_ldap_lookup on public.users (ldap_dn) where ldap_dn is not null;
create index concurrently ix_users_status on public.users (status);
create unique index concurrently ix_service_accounts_client_id on public.service_accounts (client_id);
create index concurrently idx_service_account_client_id on public.service_accounts (client_id);
create unique index concurrently ix_service_accounts_name on public.service_accounts (name);
create index concurrently ix_service_accounts_status on public.service_accounts (status);
create index concurrently idx_storage_status on public.storage_elements (status);
create index concurrently ix_storage_elements_mode on public.storage_elements (mode);
