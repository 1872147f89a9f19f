-- Gives every finished row without a position one, and puts the trigger and the constraint back
-- that should have done so. In one transaction; writers wait, readers don't.
-- {table}, {id}, {finished}, {order}, {sequence}, {trigger}, {function}, {events}, {closed},
-- {constraint} and {check} are names and conditions of ours, never a caller's text.
set local lock_timeout = '5s';
lock table public.{table} in share row exclusive mode;
do $$
declare
    one record;
begin
    if not exists (
        select from pg_trigger
        where tgrelid = 'public.{table}'::regclass and tgname = '{trigger}'
    ) then
        create trigger {trigger} before {events} on public.{table}
        for each row execute function public.{function}();
    end if;
    -- Of a finished row the trigger keeps the position as it is, which is none.
    alter table public.{table} disable trigger {trigger};
    {closed}
    -- First the transaction's id, then the number: as the trigger does.
    perform pg_current_xact_id();
    for one in
        select {id} as id from public.{table}
        where position is null and ({finished})
        order by {order}, {id}
    loop
        update public.{table} set position = nextval('{sequence}'::regclass) where {id} = one.id;
    end loop;
    alter table public.{table} enable always trigger {trigger};
    {opened}
    if not exists (
        select from pg_constraint
        where conrelid = 'public.{table}'::regclass and conname = '{constraint}'
    ) then
        alter table public.{table} add constraint {constraint} check ({check}) not valid;
    end if;
end
$$;
