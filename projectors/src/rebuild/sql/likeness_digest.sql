-- A digest of what tables $2 in schema $1 have that a swap or rollback must not lose: owner, rights, settings,
-- comments and indexes, whatever the schema's name is.
with t as (
    select c.* from pg_class c
    where c.relnamespace = $1::text::regnamespace and c.relkind = 'r' and c.relname = any($2)
),
granted (name, owner, acl) as (
    select relname::text, relowner, relacl from t
    union all
    select format('%s.%s', t.relname, a.attname), t.relowner, a.attacl
    from t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
    union all
    select format('ids of %s.%s', t.relname, a.attname), s.relowner, s.relacl
    from t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
    join pg_class s
        on s.oid = pg_get_serial_sequence(format('%I.%I', $1::text, t.relname), a.attname)::regclass
),
part (text) as (
    select format('%s of %s: %s', relname, pg_get_userbyid(relowner), obj_description(oid, 'pg_class'))
    from t
    union all
    select format('%s: %s', relname, option) from t, unnest(reloptions) option
    union all
    select distinct format('%s: %s to %s %s', g.name, x.privilege_type, x.grantee, x.is_grantable)
    from granted g cross join lateral aclexplode(g.acl) x
    where x.grantee <> g.owner
    union all
    select t.relname || ': ' || regexp_replace(pg_get_indexdef(i.indexrelid), ' ON \S+ USING ', ' USING ')
    from t join pg_index i on i.indrelid = t.oid
    where i.indisvalid and not exists (select from pg_constraint k
        where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
)
select md5(coalesce(string_agg(text, E'\n' order by text), '')) from part
