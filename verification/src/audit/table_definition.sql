-- What the catalogue says of a table of the audit log; $2: the one trigger that belongs to it.
select
    c.oid,
    c.relkind::text || ' ' || c.relpersistence::text as kind,
    c.relrowsecurity as row_security,
    c.relforcerowsecurity as forced,
    array(
        select polname::text from pg_catalog.pg_policy where polrelid = c.oid order by 1
    ) as policies,
    array(
        select rulename::text from pg_catalog.pg_rewrite
        where ev_class = c.oid and (c.relkind = 'r' or rulename <> '_RETURN')
        order by 1
    ) as rules,
    array(
        select (case i.inhparent when c.oid then i.inhrelid else i.inhparent end)::pg_catalog.regclass::text
        from pg_catalog.pg_inherits as i
        where c.oid in (i.inhparent, i.inhrelid)
        order by 1
    ) as relatives,
    -- What is called after a row was written can't change it.
    array(
        select tgname::text from pg_catalog.pg_trigger
        where tgrelid = c.oid and not tgisinternal and tgname <> $2 and tgtype & (2 | 64) <> 0
        order by 1
    ) as triggers
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relname = $1
