-- The vectors that were filled stay: they are data of the product's own column.
drop trigger {prefix}_files_search_vector on public.{prefix}_files;
drop function public.{prefix}_files_fill_search_vector();
drop function public.{prefix}_search_vector(text, text, text[]);
