-- The private keys stand there in clear, and the product needs them so. What we can do is to keep
-- them out of reach of our own roles: `artstore migrate grant` gives none of them a right on this
-- table, and refuses a role that has one from elsewhere. Written where the next person looks.
-- There is no unique rule on active keys: two overlap while they are rotated.
-- A comment that is there already is kept behind ours.
do $$
declare
    ours constant text :=
        'In clear. No role of the relay, a projector or a publisher may read this table (artstore migrate grant).';
    theirs constant text := (
        select col_description(attrelid, attnum) from pg_attribute
        where attrelid = 'public.jwt_keys'::regclass and attname = 'private_key'
    );
begin
    execute format('comment on column public.jwt_keys.private_key is %L', concat_ws(E'\n\nBefore: ', ours, theirs));
end
$$;
