do $$
declare
    comment_now constant text := (
        select col_description(attrelid, attnum) from pg_attribute
        where attrelid = 'public.jwt_keys'::regclass and attname = 'private_key'
    );
    at_theirs constant integer := position(E'\n\nBefore: ' in comment_now);
begin
    execute format(
        'comment on column public.jwt_keys.private_key is %L',
        case when at_theirs > 0 then substr(comment_now, at_theirs + length(E'\n\nBefore: ')) end
    );
end
$$;
