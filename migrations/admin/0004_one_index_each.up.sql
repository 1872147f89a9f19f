-- One index for each question. Every other one is written with each row and never needed.
-- * Where a unique constraint and a unique index say the same, the constraint stays: it says what
--   is meant, and it is the one that an insert of a second row is refused by today.
-- * Where an index is the beginning of a longer one, the longer one answers for both.
-- * Of two equal ones, the one named after its column, as most are.

-- part: refuse, columns are kept unique by nothing but the index that this step drops; add the constraint that version 1 has, or keep this version
select format('%s (%s), which version 1 keeps unique by %s', rule.owner, rule.name, rule.standard)
from (
    values
        ('users', 'username', 'uq_username', 'ix_users_username'),
        ('users', 'email', 'uq_email', 'ix_users_email'),
        ('service_accounts', 'client_id', 'uq_service_account_client_id', 'ix_service_accounts_client_id'),
        ('service_accounts', 'name', 'uq_service_account_name', 'ix_service_accounts_name')
) as rule (owner, name, standard, dropped)
where to_regclass('public.' || rule.dropped) is not null
    and not exists (
        select from pg_index
        join pg_attribute on attrelid = indrelid and attnum = indkey[0]
        where indrelid = to_regclass('public.' || rule.owner)
            and indexrelid <> to_regclass('public.' || rule.dropped)
            and indisunique and indisvalid and indpred is null and indexprs is null
            and indnkeyatts = 1 and attname = rule.name
    )
order by 1;

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
