-- Rows in every table of the admin module, as its services leave them.
insert into public.users (username, email, hashed_password, ldap_dn, role, status, is_system, failed_login_attempts, created_at, updated_at)
select 'user' || n, 'user' || n || '@example.org', 'x', 'cn=' || n, 'USER', 'ACTIVE', false, 0,
    timestamptz '2025-01-01' + n * interval '1 hour', timestamptz '2025-01-01' + n * interval '1 hour'
from generate_series(1, 40) as n;

insert into public.service_accounts (id, name, client_id, client_secret_hash, secret_changed_at, role, status, is_system, rate_limit, secret_expires_at, created_at, updated_at)
select md5(n::text)::uuid, 'account ' || n, 'sa_prod_x_' || n, 'h', now(), 'READONLY', 'ACTIVE', false, 100, now(), now(), now()
from generate_series(1, 10) as n;

insert into public.storage_elements (name, mode, storage_type, base_path, api_url, status, used_bytes, file_count, is_replicated, replica_count, created_at, updated_at)
values ('one', 'EDIT', 'LOCAL', '/data', 'http://one', 'ONLINE', 5, 1, false, 0, now(), now());

-- Two active keys: they overlap while they are exchanged.
insert into public.jwt_keys (version, private_key, public_key, algorithm, created_at, expires_at, is_active, rotation_count)
select md5(n::text), 'private', 'public', 'RS256', now(), now() + interval '1 day', true, n
from generate_series(1, 2) as n;

insert into public.audit_logs (event_type, severity, user_id, service_account_id, actor_type, resource_type, resource_id, action, request_id, data, success, hmac_signature, created_at)
select 'user_update', 'info', n % 40 + 1, md5((n % 10 + 1)::text)::uuid, 'user', 'user', n::text, 'update', md5(n::text), jsonb_build_object('n', n), true, repeat('a', 64), timestamptz '2025-01-01' + n * interval '1 minute'
from generate_series(1, 300) as n;
