-- The admin module's initial schema. It stays as the product made it, its mistakes included, so
-- that an installation that runs can be told apart from one that was changed; later steps mend it.

create type public.user_role_enum as enum ('ADMIN', 'OPERATOR', 'USER');
create type public.user_status_enum as enum ('ACTIVE', 'INACTIVE', 'LOCKED', 'DELETED');
create type public.service_account_role_enum as enum ('ADMIN', 'USER', 'AUDITOR', 'READONLY');
create type public.service_account_status_enum as enum ('ACTIVE', 'SUSPENDED', 'EXPIRED', 'DELETED');
create type public.storage_mode_enum as enum ('EDIT', 'RW', 'RO', 'AR');
create type public.storage_type_enum as enum ('LOCAL', 'S3');
create type public.storage_status_enum as enum ('ONLINE', 'OFFLINE', 'DEGRADED', 'MAINTENANCE');

create table public.users (
    id serial not null,
    username varchar(100) not null,
    email varchar(255) not null,
    first_name varchar(100),
    last_name varchar(100),
    hashed_password varchar(255),
    ldap_dn varchar(500),
    role public.user_role_enum not null,
    status public.user_status_enum not null,
    is_system boolean not null,
    last_login timestamptz,
    failed_login_attempts integer not null,
    lockout_until timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint users_pkey primary key (id),
    constraint uq_username unique (username),
    constraint uq_email unique (email)
);
create index idx_user_ldap_lookup on public.users (ldap_dn) where ldap_dn is not null;
create index idx_user_status_role on public.users (status, role);
create unique index ix_users_email on public.users (email);
create unique index ix_users_ldap_dn on public.users (ldap_dn);
create index ix_users_status on public.users (status);
create unique index ix_users_username on public.users (username);

create table public.service_accounts (
    id uuid not null,
    name varchar(200) not null,
    description varchar(500),
    client_id varchar(100) not null,
    client_secret_hash varchar(255) not null,
    secret_history json,
    secret_changed_at timestamptz not null,
    role public.service_account_role_enum not null,
    status public.service_account_status_enum not null,
    is_system boolean not null,
    rate_limit integer not null,
    secret_expires_at timestamptz not null,
    last_used_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint service_accounts_pkey primary key (id),
    constraint uq_service_account_client_id unique (client_id),
    constraint uq_service_account_name unique (name)
);
create index idx_service_account_client_id on public.service_accounts (client_id);
create index idx_service_account_secret_expiry on public.service_accounts (secret_expires_at);
create index idx_service_account_status_role on public.service_accounts (status, role);
create unique index ix_service_accounts_client_id on public.service_accounts (client_id);
create unique index ix_service_accounts_name on public.service_accounts (name);
create index ix_service_accounts_status on public.service_accounts (status);

create table public.storage_elements (
    id serial not null,
    name varchar(100) not null,
    description varchar(500),
    mode public.storage_mode_enum not null,
    storage_type public.storage_type_enum not null,
    base_path varchar(500) not null,
    api_url varchar(255) not null,
    api_key varchar(255),
    status public.storage_status_enum not null,
    capacity_bytes bigint,
    used_bytes bigint not null,
    file_count integer not null,
    retention_days integer,
    last_health_check timestamptz,
    is_replicated boolean not null,
    replica_count integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint storage_elements_pkey primary key (id)
);
create index idx_storage_mode_status on public.storage_elements (mode, status);
create index idx_storage_status on public.storage_elements (status);
create index ix_storage_elements_mode on public.storage_elements (mode);
create unique index ix_storage_elements_name on public.storage_elements (name);
create index ix_storage_elements_status on public.storage_elements (status);

create table public.jwt_keys (
    id serial not null,
    version varchar(36) not null,
    private_key text not null,
    public_key text not null,
    algorithm varchar(10) not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    is_active boolean not null,
    rotation_count integer not null,
    constraint jwt_keys_pkey primary key (id)
);
create index ix_jwt_keys_is_active on public.jwt_keys (is_active);
create unique index ix_jwt_keys_version on public.jwt_keys (version);

create table public.audit_logs (
    id bigserial not null,
    event_type varchar(100) not null,
    severity varchar(20) not null,
    user_id integer,
    service_account_id uuid,
    actor_type varchar(20) not null,
    resource_type varchar(50),
    resource_id varchar(100),
    action varchar(50) not null,
    ip_address varchar(45),
    user_agent text,
    request_id varchar(36),
    session_id varchar(100),
    data jsonb,
    success boolean not null,
    error_message text,
    hmac_signature varchar(64) not null,
    created_at timestamptz not null,
    constraint audit_logs_pkey primary key (id),
    constraint audit_logs_user_id_fkey
        foreign key (user_id) references public.users (id) on delete set null,
    constraint audit_logs_service_account_id_fkey
        foreign key (service_account_id) references public.service_accounts (id) on delete set null
);
create index ix_audit_logs_created_at on public.audit_logs (created_at);
create index ix_audit_logs_event_type on public.audit_logs (event_type);
create index ix_audit_logs_request_id on public.audit_logs (request_id);
create index ix_audit_logs_service_account_id on public.audit_logs (service_account_id);
create index ix_audit_logs_severity on public.audit_logs (severity);
create index ix_audit_logs_success on public.audit_logs (success);
create index ix_audit_logs_user_id on public.audit_logs (user_id);
