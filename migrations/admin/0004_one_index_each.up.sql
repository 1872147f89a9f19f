-- One index for each question. Every other one is written with each row and never needed.
-- * Where a unique constraint and a unique index say the same, the constraint stays: it says what
--   is meant, and it is the one that an insert of a second row is refused by today.
-- * Where an index is the beginning of a longer one, the longer one answers for both.
-- * Of two equal ones, the one named after its column, as most are.

-- part: concurrently
-- uq_username, uq_email
drop index concurrently if exists public.ix_users_username;
drop index concurrently if exists public.ix_users_email;
-- ix_users_ldap_dn is unique, and finds the same rows
drop index concurrently if exists public.idx_user_ldap_lookup;
-- idx_user_status_role (status, role)
drop index concurrently if exists public.ix_users_status;
-- uq_service_account_client_id, uq_service_account_name
drop index concurrently if exists public.ix_service_accounts_client_id;
drop index concurrently if exists public.idx_service_account_client_id;
drop index concurrently if exists public.ix_service_accounts_name;
-- idx_service_account_status_role (status, role)
drop index concurrently if exists public.ix_service_accounts_status;
-- ix_storage_elements_status is equal
drop index concurrently if exists public.idx_storage_status;
-- idx_storage_mode_status (mode, status)
drop index concurrently if exists public.ix_storage_elements_mode;
