drop table public.file_ownership;
drop table public.projection_checkpoints;
