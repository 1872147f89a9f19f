-- Statements that give table $1.$2 the owner, rights (also of its columns and of the sequences of its ids),
-- settings and comment of public.$2, where it has others.
with pair as (
    select 'table' as kind, format('public.%I', $2)::regclass::oid as live,
        format('%I.%I', $1, $2)::regclass::oid as other
    union all
    select 'sequence', x.l::oid, y.h::oid
    from pg_attribute a,
        lateral (select pg_get_serial_sequence(format('public.%I', $2), a.attname)::regclass) as x (l),
        lateral (select pg_get_serial_sequence(format('%I.%I', $1, $2), a.attname)::regclass) as y (h)
    where a.attrelid = format('public.%I', $2)::regclass and a.attnum > 0 and not a.attisdropped
        and x.l is not null and y.h is not null
),
granted (of, kind, name, owner, columns, acl) as (
    select 'live', p.kind, p.other::regclass, c.relowner, '', c.relacl
    from pair p join pg_class c on c.oid = p.live
    union all
    select 'live', p.kind, p.other::regclass, c.relowner, format(' (%I)', a.attname), a.attacl
    from pair p join pg_class c on c.oid = p.live join pg_attribute a on a.attrelid = p.live
    where p.kind = 'table' and a.attnum > 0 and not a.attisdropped
    union all
    select 'other', p.kind, p.other::regclass, c.relowner, '', c.relacl
    from pair p join pg_class c on c.oid = p.other
    union all
    select 'other', p.kind, p.other::regclass, c.relowner, format(' (%I)', a.attname), a.attacl
    from pair p join pg_class c on c.oid = p.other join pg_attribute a on a.attrelid = p.other
    where p.kind = 'table' and a.attnum > 0 and not a.attisdropped
),
privilege as (
    select g.of, g.kind, g.name, g.columns, x.privilege_type, x.is_grantable,
        case x.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end as grantee
    from granted g cross join lateral aclexplode(g.acl) x
    where x.grantee <> g.owner
),
statement (place, sql) as (
    select 0, format('alter table %s owner to %I', p.other::regclass, pg_get_userbyid(l.relowner))
    from pair p join pg_class l on l.oid = p.live join pg_class o on o.oid = p.other
    where p.kind = 'table' and l.relowner <> o.relowner
    union all
    -- Of a table, also of its columns.
    select distinct 1, format('revoke all on %s %s from %s cascade', kind, name, grantee)
    from privilege where of = 'other'
    union all
    select case columns when '' then 2 else 3 end,
        format('grant %s%s on %s %s to %s%s', privilege_type, columns, kind, name, grantee,
            case when is_grantable then ' with grant option' else '' end)
    from privilege where of = 'live'
    union all
    select 4, format('alter table %s reset (%s)', p.other::regclass, split_part(option, '=', 1))
    from pair p join pg_class o on o.oid = p.other, unnest(o.reloptions) option
    where p.kind = 'table'
    union all
    select 5, format('alter table %s set (%s)', p.other::regclass, array_to_string(l.reloptions, ', '))
    from pair p join pg_class l on l.oid = p.live
    where p.kind = 'table' and l.reloptions is not null
    union all
    select 6, format('comment on table %s is %L', p.other::regclass, obj_description(p.live, 'pg_class'))
    from pair p
    where p.kind = 'table'
        and obj_description(p.live, 'pg_class') is distinct from obj_description(p.other, 'pg_class')
)
select sql from statement order by place, sql
