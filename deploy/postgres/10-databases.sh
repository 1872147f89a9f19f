#!/usr/bin/env bash
# Run by the postgres image when its volume is empty, and by hand after an element was added: what is there stays. A
# database for each module, owned by a role of its own, and a role for each duty, with the timeouts and limits that
# `artstore migrate roles` gives them and nothing but the right to log in. The tables are made by `artstore migrate up`,
# and `artstore migrate roles` gives each duty the rights that it needs: no account, no key.
set -euo pipefail

run() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"
}

# NAME [PASSWORD-VARIABLE]
role() {
    run --set name="$1" <<'SQL'
select format('create role %I login', :'name')
where not exists (select from pg_roles where rolname = :'name') \gexec
SQL
    if [ $# -gt 1 ]; then
        run --set name="$1" --set password="${!2:?}" <<'SQL'
select format('alter role %I password %L', :'name', :'password')
where (select rolpassword is null from pg_authid where rolname = :'name') \gexec
SQL
    fi
}

# NAME SESSIONS IDLE-IN-TRANSACTION LOCK-TIMEOUT STATEMENT-TIMEOUT
limits() {
    run --set name="$1" --set sessions="$2" --set idle="$3" --set lock="$4" --set statement="$5" <<'SQL'
alter role :"name" connection limit :sessions;
alter role :"name" set idle_in_transaction_session_timeout = :'idle';
alter role :"name" set lock_timeout = :'lock';
alter role :"name" set statement_timeout = :'statement';
SQL
}

# DATABASE OWNER
database() {
    run --set database="$1" --set owner="$2" <<'SQL'
select format('create database %I owner %I template template0 encoding %L', :'database', :'owner', 'UTF8')
where not exists (select from pg_database where datname = :'database') \gexec
revoke connect, temporary on database :"database" from public;
grant connect on database :"database" to artstore_relay, artstore_console;
SQL
}

# Nobody but the superuser has anything to do in the databases that every server has.
run --command 'revoke connect, temporary on database postgres from public' \
    --command 'revoke connect, temporary on database template1 from public'

role artstore_relay RELAY_DB_PASSWORD
role artstore_projector PROJECTOR_DB_PASSWORD
role artstore_audit AUDIT_DB_PASSWORD
# People who read get a password by hand: \password artstore_auditor
role artstore_auditor
role artstore_console
role artstore_admin ADMIN_DB_PASSWORD
role artstore_query QUERY_DB_PASSWORD
role artstore_storage_01 STORAGE_01_DB_PASSWORD

# 10 sessions more of the first three with each element.
limits artstore_relay 50 1min 30s 5min
limits artstore_projector 50 1min 30s 0
limits artstore_audit 50 1min 30s 0
limits artstore_auditor 5 1min 10s 0
limits artstore_console 20 1min 10s 5min

database artstore_admin artstore_admin
database artstore artstore_query
database artstore_storage_01 artstore_storage_01

run --command 'grant connect on database artstore_admin to artstore_audit, artstore_auditor' \
    --command 'grant connect on database artstore to artstore_projector'
