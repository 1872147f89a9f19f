-- The first statement of a poll: it takes the snapshot, and reports which database this is, and how far
-- the sequence is. $1: the sequence, as text.
-- The timeline is that of the present WAL position; the control file still shows the old one
-- after a promotion.
select pg_is_in_recovery() as standby,
       (select system_identifier from pg_control_system())::text as system_identifier,
       (select oid from pg_database where datname = current_database())::text as database_oid,
       case when not pg_is_in_recovery()
            then left(pg_walfile_name(pg_current_wal_lsn()), 8)
       end as timeline,
       pg_snapshot_xmin(pg_current_snapshot())::text as xmin,
       coalesce(pg_sequence_last_value($1::text::regclass), 0) as sequence_value
