-- part: transaction
drop table if exists public.projection_locks;
