-- A storage element's initial schema, under its own prefix. It stays as the product made it, its
-- mistakes included; later steps mend it.

create table public.{prefix}_config (
    id serial not null,
    current_mode varchar(10) not null,
    mode_changed_at timestamptz not null default now(),
    mode_changed_by varchar(255),
    is_master boolean not null,
    master_elected_at timestamptz,
    total_files integer not null,
    total_size_bytes integer not null,
    last_cache_rebuild timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint {prefix}_config_pkey primary key (id)
);

create table public.{prefix}_files (
    file_id uuid not null,
    original_filename varchar(500) not null,
    storage_filename varchar(500) not null,
    file_size bigint not null,
    content_type varchar(255) not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    created_by_id varchar(255) not null,
    created_by_username varchar(255) not null,
    created_by_fullname varchar(500),
    description text,
    version varchar(50),
    storage_path varchar(1000) not null,
    checksum varchar(64) not null,
    search_vector tsvector,
    metadata_json jsonb,
    constraint {prefix}_files_pkey primary key (file_id)
);
create index idx_{prefix}_filename on public.{prefix}_files (original_filename);
create index idx_{prefix}_metadata on public.{prefix}_files using gin (metadata_json);
create index idx_{prefix}_search_vector on public.{prefix}_files using gin (search_vector);
create index idx_{prefix}_user_date on public.{prefix}_files (created_by_id, created_at);
create index ix_{prefix}_files_created_by_id on public.{prefix}_files (created_by_id);
create index ix_{prefix}_files_created_by_username on public.{prefix}_files (created_by_username);
create index ix_{prefix}_files_file_id on public.{prefix}_files (file_id);
create index ix_{prefix}_files_original_filename on public.{prefix}_files (original_filename);
create unique index ix_{prefix}_files_storage_filename on public.{prefix}_files (storage_filename);

create table public.{prefix}_wal (
    transaction_id uuid not null,
    operation_type varchar(50) not null,
    status varchar(20) not null,
    file_id uuid,
    operation_data jsonb not null,
    error_message text,
    started_at timestamptz not null default now(),
    completed_at timestamptz,
    duration_ms integer,
    user_id varchar(255),
    constraint {prefix}_wal_pkey primary key (transaction_id)
);
create index idx_{prefix}_wal_data on public.{prefix}_wal using gin (operation_data);
create index idx_{prefix}_wal_file on public.{prefix}_wal (file_id, started_at);
create index idx_{prefix}_wal_status_time on public.{prefix}_wal (status, started_at);
create index ix_{prefix}_wal_file_id on public.{prefix}_wal (file_id);
create index ix_{prefix}_wal_operation_type on public.{prefix}_wal (operation_type);
create index ix_{prefix}_wal_status on public.{prefix}_wal (status);
create index ix_{prefix}_wal_user_id on public.{prefix}_wal (user_id);
