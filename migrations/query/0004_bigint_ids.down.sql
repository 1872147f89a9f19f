-- Back to a four-byte serial.

-- part: refuse, ids of search_history are beyond four bytes; delete those rows, or keep this version
select 'id ' || id || ', ' || created_at from public.search_history
where id > 2147483647
order by search_history.id;

-- part: refuse, the next id of search_history is beyond four bytes; set its sequence back with `alter sequence public.search_history_id_seq restart with N` above the highest id, or keep this version
select 'last given: ' || last_value from public.search_history_id_seq where last_value > 2147483646;

-- part: refuse, ids of download_statistics are beyond four bytes; delete those rows, or keep this version
select 'id ' || id || ', ' || created_at from public.download_statistics
where id > 2147483647
order by download_statistics.id;

-- part: refuse, the next id of download_statistics is beyond four bytes; set its sequence back with `alter sequence public.download_statistics_id_seq restart with N` above the highest id, or keep this version
select 'last given: ' || last_value from public.download_statistics_id_seq where last_value > 2147483646;

-- part: transaction
lock table public.download_statistics in access exclusive mode;
do $$
declare
    highest bigint;
    writer text;
begin
    if not exists (
        select from pg_attribute
        where attrelid = 'public.download_statistics'::regclass and attname = 'id' and attidentity <> ''
    ) then
        return;
    end if;
    highest := greatest(
        (select max(id) from public.download_statistics),
        (select last_value from public.download_statistics_id_seq where is_called)
    );
    alter table public.download_statistics alter column id drop identity;
    alter table public.download_statistics alter column id type integer;
    create sequence public.download_statistics_id_seq as integer owned by public.download_statistics.id;
    alter table public.download_statistics
        alter column id set default nextval('public.download_statistics_id_seq'::regclass);
    -- A default draws with the writer's own rights; the identity needed none.
    for writer in
        select case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end
        from pg_class, aclexplode(relacl)
        where oid = 'public.download_statistics'::regclass and privilege_type = 'INSERT' and grantee <> relowner
    loop
        execute format('grant usage on sequence public.download_statistics_id_seq to %s', writer);
    end loop;
    if highest is not null then
        perform setval('public.download_statistics_id_seq'::regclass, highest, true);
    end if;
end
$$;

-- part: transaction
lock table public.search_history in access exclusive mode;
do $$
declare
    highest bigint;
    writer text;
begin
    if not exists (
        select from pg_attribute
        where attrelid = 'public.search_history'::regclass and attname = 'id' and attidentity <> ''
    ) then
        return;
    end if;
    highest := greatest(
        (select max(id) from public.search_history),
        (select last_value from public.search_history_id_seq where is_called)
    );
    alter table public.search_history alter column id drop identity;
    alter table public.search_history alter column id type integer;
    create sequence public.search_history_id_seq as integer owned by public.search_history.id;
    alter table public.search_history
        alter column id set default nextval('public.search_history_id_seq'::regclass);
    -- A default draws with the writer's own rights; the identity needed none.
    for writer in
        select case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end
        from pg_class, aclexplode(relacl)
        where oid = 'public.search_history'::regclass and privilege_type = 'INSERT' and grantee <> relowner
    loop
        execute format('grant usage on sequence public.search_history_id_seq to %s', writer);
    end loop;
    if highest is not null then
        perform setval('public.search_history_id_seq'::regclass, highest, true);
    end if;
end
$$;
