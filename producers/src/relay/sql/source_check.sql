-- $1: the table, $2: its position sequence, $3: the table with its prune mark, or null for an outbox, $4: the table
-- with the key of its relay's lock; all as text with their schema.
with t as (select to_regclass($1) as id),
     s as (select to_regclass($2) as id),
before_row as (
    -- BEFORE (2) and ROW (1) triggers fire in the byte order of their names.
    select g.tgname collate "C" as name, g.tgenabled, g.tgtype, g.tgqual, p.prosecdef, p.proconfig, p.prosrc
    from pg_trigger g
    join pg_proc p on p.oid = g.tgfoid
    where g.tgrelid = (select id from t) and not g.tgisinternal and g.tgtype & 3 = 3
),
last_fired as (select * from before_row order by name desc limit 1)
select current_database()::text as "database",
       (select id is not null from t) as "table",
       (select f.tgenabled = 'A'
               and f.tgtype & 4 = 4
               and f.tgqual is null
               and f.prosecdef
               and exists (select 1 from unnest(f.proconfig) c where c like 'search_path=%')
               and position('pg_current_xact_id' in f.prosrc) > 0
               and position('nextval' in f.prosrc) > position('pg_current_xact_id' in f.prosrc)
               and position(split_part($2, '.', 2) in f.prosrc) > 0
        from last_fired f) as "trigger",
       (select q.seqcache = 1 and not q.seqcycle and q.seqincrement = 1
               and not exists (select 1 from pg_depend d
                               where d.classid = 'pg_class'::regclass and d.objid = q.seqrelid
                                 and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i'))
        from pg_sequence q where q.seqrelid = (select id from s)) as "sequence",
       exists (select 1 from pg_index i
               join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'position'
               where i.indrelid = (select id from t) and i.indisunique and i.indisvalid
                 and i.indnkeyatts = 1 and i.indkey[0] = a.attnum) as "index",
       exists (select 1 from pg_constraint c
               where c.conrelid = (select id from t) and c.contype = 'c' and c.convalidated
                 and pg_get_constraintdef(c.oid) ilike '%position%is not null%')
       or exists (select 1 from pg_attribute a
               where a.attrelid = (select id from t) and a.attname = 'position' and a.attnotnull) as "guard",
       ($3::text is null or to_regclass($3) is not null) as "floor",
       to_regclass($4) is not null as "lock"
