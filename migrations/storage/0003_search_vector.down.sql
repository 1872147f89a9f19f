-- The vectors that were filled stay: they are data of the product's own column.
drop trigger if exists {prefix}_files_search_vector on public.{prefix}_files;
drop function if exists public.{prefix}_files_fill_search_vector();
drop function if exists public.{prefix}_search_vector(text, text, text[]);
