-- Back to a four-byte serial. Ids beyond it stop the step ("integer out of range").

lock table public.download_statistics in access exclusive mode;
do $$
declare
    highest constant bigint := greatest(
        (select max(id) from public.download_statistics),
        (select last_value from public.download_statistics_id_seq where is_called)
    );
begin
    alter table public.download_statistics alter column id drop identity;
    alter table public.download_statistics alter column id type integer;
    create sequence public.download_statistics_id_seq as integer owned by public.download_statistics.id;
    alter table public.download_statistics
        alter column id set default nextval('public.download_statistics_id_seq'::regclass);
    if highest is not null then
        perform setval('public.download_statistics_id_seq'::regclass, highest, true);
    end if;
end
$$;

lock table public.search_history in access exclusive mode;
do $$
declare
    highest constant bigint := greatest(
        (select max(id) from public.search_history),
        (select last_value from public.search_history_id_seq where is_called)
    );
begin
    alter table public.search_history alter column id drop identity;
    alter table public.search_history alter column id type integer;
    create sequence public.search_history_id_seq as integer owned by public.search_history.id;
    alter table public.search_history
        alter column id set default nextval('public.search_history_id_seq'::regclass);
    if highest is not null then
        perform setval('public.search_history_id_seq'::regclass, highest, true);
    end if;
end
$$;
