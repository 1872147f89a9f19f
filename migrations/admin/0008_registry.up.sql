-- What the streams tell of each storage element.

-- part: transaction
-- When something last happened there, by the element's clock.
alter table public.storage_elements add column if not exists last_event_at timestamptz;

-- The size of each file on each element: a change of it is what moves the numbers.
create table if not exists public.registry_files (
    element text collate "C" not null,
    file_id uuid not null,
    file_size bigint not null,
    constraint registry_files_pkey primary key (element, file_id)
);

-- Also of elements that nobody has registered yet.
create table if not exists public.registry_elements (
    element text collate "C" not null,
    -- Null before the first change of mode.
    mode text,
    files bigint not null,
    bytes bigint not null,
    last_event_at timestamptz,
    constraint registry_elements_pkey primary key (element),
    constraint registry_elements_mode_check check (mode in ('EDIT', 'RW', 'RO', 'AR'))
);
