-- The query module's initial schema. It stays as the product made it, its mistakes included;
-- later steps mend it.

create table public.file_metadata_cache (
    id varchar(36) not null,
    filename varchar(255) not null,
    storage_filename varchar(512) not null,
    file_size bigint not null,
    mime_type varchar(127),
    sha256_hash varchar(64) not null,
    username varchar(255) not null,
    tags varchar(50)[],
    description text,
    storage_element_id varchar(50) not null,
    storage_element_url varchar(512) not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    cache_updated_at timestamptz not null default now(),
    search_vector tsvector,
    constraint file_metadata_cache_pkey primary key (id),
    constraint check_file_size_positive check (file_size >= 0),
    constraint check_tags_count check (array_length(tags, 1) <= 50)
);
create index idx_file_metadata_file_size on public.file_metadata_cache (file_size, created_at);
create index idx_file_metadata_mime_type on public.file_metadata_cache (mime_type, created_at);
create index idx_file_metadata_search_vector on public.file_metadata_cache using gin (search_vector);
create index idx_file_metadata_storage_elem on public.file_metadata_cache (storage_element_id, created_at);
create index idx_file_metadata_tags on public.file_metadata_cache using gin (tags);
create index idx_file_metadata_username_created on public.file_metadata_cache (username, created_at);
create index ix_file_metadata_cache_created_at on public.file_metadata_cache (created_at);
create index ix_file_metadata_cache_filename on public.file_metadata_cache (filename);
create index ix_file_metadata_cache_mime_type on public.file_metadata_cache (mime_type);
create unique index ix_file_metadata_cache_sha256_hash on public.file_metadata_cache (sha256_hash);
create index ix_file_metadata_cache_storage_element_id on public.file_metadata_cache (storage_element_id);
create index ix_file_metadata_cache_updated_at on public.file_metadata_cache (updated_at);
create index ix_file_metadata_cache_username on public.file_metadata_cache (username);

create table public.search_history (
    id serial not null,
    query_text text,
    search_mode varchar(20) not null,
    filters_applied text,
    results_count integer not null,
    response_time_ms integer not null,
    username varchar(255),
    created_at timestamptz not null default now(),
    constraint search_history_pkey primary key (id),
    constraint check_response_time_positive check (response_time_ms >= 0),
    constraint check_results_count_positive check (results_count >= 0)
);
create index idx_search_history_created on public.search_history (created_at);
create index idx_search_history_mode on public.search_history (search_mode, created_at);
create index idx_search_history_username_created on public.search_history (username, created_at);
create index ix_search_history_created_at on public.search_history (created_at);
create index ix_search_history_username on public.search_history (username);

create table public.download_statistics (
    id serial not null,
    file_id varchar(36) not null,
    bytes_transferred bigint not null,
    download_time_ms integer not null,
    was_resumed boolean not null,
    username varchar(255),
    storage_element_id varchar(50) not null,
    created_at timestamptz not null default now(),
    constraint download_statistics_pkey primary key (id),
    constraint check_bytes_positive check (bytes_transferred >= 0),
    constraint check_download_time_positive check (download_time_ms >= 0)
);
create index idx_download_stats_file_created on public.download_statistics (file_id, created_at);
create index idx_download_stats_storage_created on public.download_statistics (storage_element_id, created_at);
create index idx_download_stats_username_created on public.download_statistics (username, created_at);
create index ix_download_statistics_created_at on public.download_statistics (created_at);
create index ix_download_statistics_file_id on public.download_statistics (file_id);
create index ix_download_statistics_storage_element_id on public.download_statistics (storage_element_id);
create index ix_download_statistics_username on public.download_statistics (username);
