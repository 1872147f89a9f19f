-- Who still holds the lock that nextval leaves on the sequence until its transaction ends, and
-- with which transaction id. $1: the sequence, as text. Read before the poll's snapshot.
-- The list of locks is not read at one moment: a holder that ends meanwhile shows no id.
with locks as materialized (
    select locktype, relation, transactionid, virtualtransaction, mode
    from pg_locks
    where granted
      and (database is null or database = (select oid from pg_database where datname = current_database()))
),
holders as (
    select distinct virtualtransaction
    from locks
    where locktype = 'relation' and relation = $1::text::regclass::oid
      and mode <> 'AccessShareLock'
),
ids as (
    select h.virtualtransaction,
           l.transactionid::text::bigint as transaction_id
    from holders h
    left join locks l
      on l.virtualtransaction = h.virtualtransaction
     and l.locktype = 'transactionid'
     and l.mode = 'ExclusiveLock'
)
select virtualtransaction as holder,
       min(transaction_id) as transaction_id,
       pg_snapshot_xmax(pg_current_snapshot())::text as next
from ids
group by virtualtransaction
