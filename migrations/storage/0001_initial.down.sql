-- No `cascade`: what somebody else hung on these tables stops the step and is named.
drop table public.{prefix}_wal;
drop table public.{prefix}_files;
drop table public.{prefix}_config;
