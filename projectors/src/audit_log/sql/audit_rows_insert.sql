insert into public.audit_logs (
    format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type, actor_id,
    actor_name, actor_role, user_id, service_account_id, resource_type, resource_id, action,
    ip_address, user_agent, request_id, session_id, data, success, error_message, created_at, kid,
    hmac_signature
)
select
    $1, r.mapping, $2, r.stream_sequence, r.event_id, r.event_type, r.severity, r.actor_type,
    r.actor_id, r.actor_name, r.actor_role, r.user_id, r.service_account_id, r.resource_type,
    r.resource_id, r.action, r.ip_address, r.user_agent, r.request_id, r.session_id,
    r.data::jsonb, r.success, r.error_message, r.created_at, $3, r.hmac_signature
from unnest(
    $4::integer[], $5::bigint[], $6::uuid[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::text[], $13::integer[], $14::uuid[], $15::text[], $16::text[], $17::text[],
    $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::boolean[], $24::text[],
    $25::timestamptz[], $26::text[]
) with ordinality as r (
    mapping, stream_sequence, event_id, event_type, severity, actor_type, actor_id, actor_name,
    actor_role, user_id, service_account_id, resource_type, resource_id, action, ip_address,
    user_agent, request_id, session_id, data, success, error_message, created_at, hmac_signature,
    place
)
order by r.place
