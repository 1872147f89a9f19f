-- $1: tables, by their names with a schema. What each is, and what stands between it and a reader.
-- row_security_active also holds where row_security is off: a statement fails then.
select t.name,
       c.relkind::text as kind,
       c.relpersistence = 'u' as unlogged,
       c.relrowsecurity as secured,
       row_security_active(c.oid) as hidden,
       quote_ident(current_user) as role,
       current_user::text as role_name,
       pg_has_role(c.relowner, 'usage') as is_owner,
       array(select p.polname::text from pg_policy p where p.polrelid = c.oid order by 1) as policies,
       array(select r.rulename::text from pg_rewrite r
             where r.ev_class = c.oid and c.relkind <> 'v' and r.ev_enabled <> 'D' order by 1) as rules,
       array(select i.inhrelid::regclass::text from pg_inherits i
             where i.inhparent = c.oid order by 1) as children
from unnest($1::text[]) with ordinality as t(name, place)
join pg_class c on c.oid = to_regclass(t.name)
order by t.place
