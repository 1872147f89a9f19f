//! A product-made database at version 1, with rows in every table as the product writes them, and
//! with tables that are none of ours beside them.

use super::*;

/// Enough for more than one chunk of a part that runs in batches.
pub(super) const MANY: usize = 2_500;
pub(super) const FEW: usize = 40;

/// Fills a module's tables at version 1, with so many files.
pub(super) async fn fill(conn: &mut PgConnection, module: &Module, files: usize) {
    let sql = match module {
        Module::Admin => ADMIN,
        Module::Query => QUERY,
        Module::Storage(_) => STORAGE,
    };
    exec(conn, &sql.replace("{files}", &files.to_string())).await;
}

const ADMIN: &str = "
    insert into users (username, email, role, status, is_system, failed_login_attempts, created_at, updated_at, ldap_dn)
    select 'u' || n, 'u' || n || '@x', 'USER', 'ACTIVE', false, 0, now(), now(), 'cn=' || n
    from generate_series(1, 20) as n;
    insert into service_accounts (id, name, client_id, client_secret_hash, secret_changed_at, role, status, is_system,
        rate_limit, secret_expires_at, created_at, updated_at)
    select gen_random_uuid(), 's' || n, 'sa_' || n, 'h', now(), 'AUDITOR', 'ACTIVE', false, 100, now(), now(), now()
    from generate_series(1, 20) as n;
    insert into storage_elements (name, mode, storage_type, base_path, api_url, status, used_bytes, file_count,
        is_replicated, replica_count, created_at, updated_at)
    values ('e', 'RW', 'LOCAL', '/', 'http://e', 'ONLINE', 0, 0, false, 0, now(), now());
    insert into jwt_keys (version, private_key, public_key, algorithm, created_at, expires_at, is_active, rotation_count)
    values ('a', 'secret', 'p', 'RS256', now(), now(), true, 0), ('b', 'secret', 'p', 'RS256', now(), now(), true, 1);
    insert into audit_logs (event_type, severity, user_id, actor_type, action, request_id, data, success, hmac_signature, created_at)
    select 'login_success', severity, 1 + n % 20, 'user', 'login', n::text, '{}', true, 'sig', now()
    from generate_series(1, 50) as n, unnest(array['info', 'warning', 'error', 'critical']) as severity;
    insert into audit_logs (event_type, severity, service_account_id, actor_type, action, success, hmac_signature, created_at)
    select 'x', 'info', id, 'service_account', 'read', true, 'sig', now() from service_accounts;";

const QUERY: &str = "
    insert into file_metadata_cache (id, filename, storage_filename, file_size, mime_type, sha256_hash, username, tags,
        description, storage_element_id, storage_element_url, created_at, updated_at)
    select gen_random_uuid(), 'annual_report_' || n || '.pdf', 's' || n, n, 'application/pdf', 'h' || n, 'u' || n % 3,
        array['Budgets', 'год'], 'Отчёты о продажах', 'e', 'http://e', now(), now()
    from generate_series(1, {files}) as n;
    insert into search_history (query_text, search_mode, results_count, response_time_ms, username)
    select 'q', mode, 1, 1, 'u' from generate_series(1, 20), unnest(array['exact', 'partial', 'fulltext']) as mode;
    insert into download_statistics (file_id, bytes_transferred, download_time_ms, was_resumed, storage_element_id)
    select gen_random_uuid(), n, n, false, 'e' from generate_series(1, 20) as n;";

const STORAGE: &str = r#"
    insert into storage_elem_01_config (current_mode, is_master, total_files, total_size_bytes)
    values ('rw', true, 1, 2000000000);
    insert into storage_elem_01_files (file_id, original_filename, storage_filename, file_size, content_type,
        created_by_id, created_by_username, description, storage_path, checksum, search_vector, metadata_json)
    select gen_random_uuid(), 'annual_report_' || n || '.pdf', 's' || n, n, 'application/pdf', '1', 'u',
        'Отчёты о продажах', '/', 'c' || n, null, '{"tags": ["Budgets"]}'
    from generate_series(1, {files}) as n;
    insert into storage_elem_01_wal (transaction_id, operation_type, status, file_id, operation_data, completed_at, user_id)
    select gen_random_uuid(), 'file_create', (array['committed', 'pending', 'rolled_back', 'failed'])[1 + n % 4],
        gen_random_uuid(), '{"original_filename": "x"}', now() + n * interval '1 ms', '17'
    from generate_series(1, 200) as n;"#;

/// What our steps must not touch: another element's tables, and a table of nobody.
pub(super) const STRAYS: &str = "
    create table stray_wal (transaction_id uuid primary key, operation_type text, status varchar(20), position bigint);
    create table stray_files (file_id uuid primary key, original_filename text, search_vector tsvector);
    create table stray_config (id serial primary key, total_files integer, current_mode varchar(10));
    create index ix_stray_wal_status on stray_wal (status);
    insert into stray_wal select gen_random_uuid(), 'file_create', 'strange', n from generate_series(1, 50) as n;
    insert into stray_files select gen_random_uuid(), 'report ' || n, null from generate_series(1, 50) as n;
    insert into stray_config (total_files, current_mode) values (1, 'odd'), (2, 'odd');";

/// In an admin or query database a table with a WAL's columns would be another module's.
pub(super) const STRANGER: &str = "
    create table stray_notes (id serial primary key, note text);
    insert into stray_notes (note) select 'note ' || n from generate_series(1, 50) as n;";

/// Everything about the strays: where each row lies and who wrote it too, so that not even a
/// rewrite of the same contents goes unseen.
pub(super) async fn strays(conn: &mut PgConnection) -> Vec<String> {
    let tables = texts(
        conn,
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind = 'r' and relname like 'stray%' order by 1",
    )
    .await;
    let mut all = Vec::new();
    for table in tables {
        let rows = format!(
            "select format('{table} %s %s %s', ctid, xmin, t::text) from {table} as t order by ctid"
        );
        all.extend(texts(conn, &rows).await);
    }
    let catalogue = catalogue(conn).await;
    all.extend(catalogue.into_iter().filter(|line| line.contains("stray")));
    all
}

/// The contents of version 1's columns, a digest a table. The search vector is what steps fill.
pub(super) struct Contents(Vec<(String, String)>);

impl Contents {
    /// To be called at version 1.
    pub(super) async fn of(conn: &mut PgConnection) -> Self {
        let tables = texts(
            conn,
            "select format('%s %s', class.relname, string_agg(quote_ident(attname), ', ' order by attnum))
             from pg_class as class
             join pg_attribute on attrelid = class.oid and attnum > 0 and not attisdropped
             where relnamespace = 'public'::regnamespace and relkind = 'r' and attname <> 'search_vector'
                 and relname not like 'stray%' and relname not like '%\\_version'
             group by class.relname order by 1",
        )
        .await;
        let split = |line: &String| {
            let (table, columns) = line.split_once(' ').unwrap();
            (table.to_owned(), columns.to_owned())
        };
        Self(tables.iter().map(split).collect())
    }

    pub(super) async fn digests(&self, conn: &mut PgConnection) -> Vec<String> {
        let mut digests = Vec::new();
        for (table, columns) in &self.0 {
            let row = format!("row({columns})::text");
            let sql = format!(
                "select '{table} ' || count(*) || ' ' || md5(coalesce(string_agg({row}, '|' order by {row}), '')) from {table}"
            );
            digests.push(text(conn, &sql).await);
        }
        digests
    }
}
