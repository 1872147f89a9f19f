alter table public.search_history drop constraint if exists search_history_search_mode_check;
