-- part: transaction
drop table if exists public.{prefix}_relay_lock;
