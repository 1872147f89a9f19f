-- $1: the module's tables; $2: its sequences and types; $3: names that later steps make.
with tables as (
    select class.oid, class.relname::text as name, class.relkind, class.relpersistence,
        class.relrowsecurity
    from pg_class as class
    where class.relnamespace = 'public'::regnamespace
        and class.relname = any($1)
        and class.relkind in ('r', 'p', 'v', 'm', 'f')
)
select 'table' as kind, '' as "table", tables.name as name,
    case tables.relkind
        when 'r' then ''
        when 'p' then 'partitioned'
        when 'v' then 'a view'
        when 'm' then 'a materialized view'
        else 'a foreign table'
    end
    || case when tables.relpersistence = 'u' then 'unlogged' else '' end
    || case when tables.relrowsecurity then ' with row security' else '' end as text
from tables

union all
select 'column', tables.name, col.attname::text,
    format('%s%s | %s%s',
        format_type(col.atttypid, col.atttypmod),
        case when col.attcollation <> type.typcollation
            then ' collate ' || col.attcollation::regcollation end,
        case when col.attnotnull then 'not null' else 'null' end,
        case
            when col.attidentity <> '' then ' | identity'
            when col.attgenerated <> '' then
                ' | generated as ' || pg_get_expr(def.adbin, def.adrelid)
            else ' | ' || pg_get_expr(def.adbin, def.adrelid)
        end)
from tables
join pg_attribute as col
    on col.attrelid = tables.oid and col.attnum > 0 and not col.attisdropped
join pg_type as type on type.oid = col.atttypid
left join pg_attrdef as def on def.adrelid = col.attrelid and def.adnum = col.attnum

union all
-- Not those of `not null`, which newer servers list here too, nor those of constraint triggers.
select 'constraint', tables.name, con.conname::text, pg_get_constraintdef(con.oid)
from tables
join pg_constraint as con on con.conrelid = tables.oid and con.contype in ('p', 'u', 'c', 'f', 'x')

union all
-- Those of constraints are described there.
select 'index', tables.name, class.relname::text,
    case when ind.indisvalid then '' else 'INVALID ' end || pg_get_indexdef(ind.indexrelid)
from tables
join pg_index as ind on ind.indrelid = tables.oid
join pg_class as class on class.oid = ind.indexrelid
where not exists (
    select from pg_constraint as con where con.conindid = ind.indexrelid and con.conrelid = tables.oid
)

union all
select 'trigger', tables.name, trig.tgname::text, pg_get_triggerdef(trig.oid)
from tables
join pg_trigger as trig on trig.tgrelid = tables.oid and not trig.tgisinternal

union all
select 'enum', '', type.typname::text,
    coalesce(
        (
            select string_agg(label.enumlabel, ', ' order by label.enumsortorder)
            from pg_enum as label where label.enumtypid = type.oid
        ),
        ''
    )
from pg_type as type
where type.typnamespace = 'public'::regnamespace
    and type.typname = any($2)
    and type.typtype <> 'c'
    -- A table is also a type.
    and type.typrelid = 0

union all
select 'sequence', '', class.relname::text,
    format('%s start %s min %s max %s by %s cache %s%s%s',
        format_type(seq.seqtypid, null), seq.seqstart, seq.seqmin, seq.seqmax, seq.seqincrement,
        seq.seqcache, case when seq.seqcycle then ' cycle' end,
        (
            select format(' owned by %s.%s', owner.relname, col.attname)
            from pg_depend as dep
            join pg_class as owner on owner.oid = dep.refobjid
            join pg_attribute as col
                on col.attrelid = dep.refobjid and col.attnum = dep.refobjsubid
            where dep.classid = 'pg_class'::regclass and dep.refclassid = 'pg_class'::regclass
                and dep.objid = class.oid and dep.deptype in ('a', 'i')
        ))
from pg_class as class
join pg_sequence as seq on seq.seqrelid = class.oid
where class.relnamespace = 'public'::regnamespace and class.relname = any($2)

union all
-- Relations that are in the way of a later step, on whatever table they are.
select case when class.relkind in ('i', 'I') then 'index'
        when class.relkind = 'S' then 'sequence' else 'table' end,
    coalesce((select indrelid::regclass::text from pg_index where indexrelid = class.oid), ''),
    class.relname::text, ''
from pg_class as class
where class.relnamespace = 'public'::regnamespace
    and class.relname = any($3)
    and class.relname <> all($1)
    and class.relname <> all($2)
    and not exists (
        select from pg_index as ind join tables on tables.oid = ind.indrelid
        where ind.indexrelid = class.oid
    )

union all
select 'function', '', func.proname::text, ''
from pg_proc as func
where func.pronamespace = 'public'::regnamespace and func.proname = any($3)
group by func.proname
order by 1, 2, 3
