-- part: transaction
drop function if exists public.{prefix}_utf8(text);
