#!/usr/bin/env bash
# Run by the postgres image when its volume is empty, and by hand after an element was added: what is there stays. A
# database for each module, owned by a role of its own, and roles for the relay and the audit log, which may only
# connect. The tables are made by `artstore migrate up`, and `artstore migrate grant` gives the relay the rights to read
# what it publishes: no account, no key; and the audit log those to be written.
set -euo pipefail

# NAME PASSWORD-VARIABLE
role() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        --set name="$1" --set password="${!2:?}" <<'SQL'
select format('create role %I login password %L', :'name', :'password')
where not exists (select from pg_roles where rolname = :'name') \gexec
SQL
}

# DATABASE OWNER
database() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        --set database="$1" --set owner="$2" <<'SQL'
select format('create database %I owner %I template template0 encoding %L', :'database', :'owner', 'UTF8')
where not exists (select from pg_database where datname = :'database') \gexec
revoke connect, temporary on database :"database" from public;
grant connect on database :"database" to artstore_relay;
SQL
}

role artstore_relay RELAY_DB_PASSWORD
role artstore_audit AUDIT_DB_PASSWORD
role artstore_admin ADMIN_DB_PASSWORD
role artstore_query QUERY_DB_PASSWORD
role artstore_storage_01 STORAGE_01_DB_PASSWORD

database artstore_admin artstore_admin
database artstore artstore_query
database artstore_storage_01 artstore_storage_01

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --command 'grant connect on database artstore_admin to artstore_audit'
