"""The mappings of the audit log a second time: from a message to its row's bytes, written from docs/audit-format.md alone.

    second_mapping.py VECTORS    compares with each vector's bytes; run by second_mapping.rs
"""

import base64
import datetime
import hashlib
import json
import re
import struct
import sys
import uuid

SAFE = 2**53 - 1


class Unreadable(Exception):
    pass


# --- reading -------------------------------------------------------------------------------------------------------


def without_nul(text):
    return text.replace("\0", "\ufffd")


def double(value):
    """The shortest decimal form: plain from 1e-5 up to below 1e16, else with an exponent."""
    if value in (float("inf"), float("-inf")):
        raise ValueError("beyond the doubles")
    sign, digits, exponent = "-" if str(value).startswith("-") else "", *scientific(abs(value))
    if value == 0:
        return sign + "0.0"
    if not -5 <= exponent < 16:
        mantissa = digits[0] + ("." + digits[1:] if digits[1:] else "")
        return f"{sign}{mantissa}e{exponent:+d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, rest = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}.{rest or '0'}"


def scientific(value):
    """The shortest digits of a double and the exponent of the first one."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, rest = mantissa.partition(".")
    digits = whole + rest
    exponent = int(exponent or 0) + len(whole) - 1
    stripped = digits.lstrip("0")
    exponent -= len(digits) - len(stripped)
    return stripped.rstrip("0") or "0", exponent


def integer(text):
    value = int(text)
    if text != "-0" and abs(value) <= SAFE:
        return value
    if text != "-0" and -(2**63) <= value < 2**64:
        return str(value)
    return double(float(text))


def depth_of(text):
    """How many arrays and objects stand in each other."""
    depth = most = 0
    for bracket in re.findall(r'"(?:[^"\\]|\\.)*"|([\[\]{}])', text, re.S):
        if bracket:
            depth += 1 if bracket in "[{" else -1
            most = max(most, depth)
    return most


def constant(name):
    raise ValueError(name)


def carried(value):
    if isinstance(value, str):
        value.encode()  # a lone surrogate has no UTF-8
        return without_nul(value)
    if isinstance(value, list):
        return [carried(item) for item in value]
    if isinstance(value, dict):
        return {carried(name): carried(item) for name, item in value.items()}
    return value


def parsed(body):
    try:
        text = body.decode()
        if depth_of(text) > 127:
            raise ValueError("too deep")
        read = json.loads(
            text,
            parse_int=integer,
            parse_float=lambda number: double(float(number)),
            parse_constant=constant,
        )
        return carried(read)
    except (ValueError, RecursionError):
        raise Unreadable("the body is no JSON") from None


def uuid_of(text):
    forms = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    allowed = rf"[0-9a-f]{{32}}|{forms}|\{{{forms}\}}|urn:uuid:{forms}"
    if text is None or not re.fullmatch(allowed, text, re.I):
        return None
    return uuid.UUID(text).bytes


def microseconds(text):
    form = r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))"
    match = re.fullmatch(form, text or "", re.A)
    if not match:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, hours, minutes = match.groups()[6:]
    try:
        date = datetime.date(year, month, day).toordinal() - datetime.date(1970, 1, 1).toordinal()
        datetime.time(hour, minute, second)
    except ValueError:
        return None
    offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1) if sign else 0
    seconds = ((date * 24 + hour) * 60 + minute - offset) * 60 + second
    return seconds * 1_000_000 + int(((fraction or "") + "000000")[:6])


def decoded(text):
    """Escapes of a header's value."""
    raw = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode()
    )
    return without_nul(raw.decode("utf-8", "replace"))


def source_of(stream):
    element = stream.removeprefix("ARTSTORE_WAL_")
    if element != stream:
        return f"/artstore/elements/{element}", f"artstore.wal.{element}", element
    name = stream.removeprefix("ARTSTORE_").lower()
    return f"/artstore/{name}", f"artstore.{name}", None


def read(stream, message):
    headers, (source, prefix, _) = message["headers"], source_of(stream)
    event_id = uuid_of(headers.get("ce-id"))
    if event_id is None:
        raise Unreadable("header ce-id is missing or no UUID")
    if headers.get("ce-source") != source:
        raise Unreadable("header ce-source is missing or names another source")
    if not message["subject"].startswith(prefix + "."):
        raise Unreadable("the subject belongs to another source")
    kind = re.fullmatch(r"artstore\.([^.]+)\.([^.]+)\.v\+?(\d+)", headers.get("ce-type", ""), re.A)
    if not kind or int(kind[3]) >= 2**32:
        raise Unreadable("header ce-type is missing or no type")
    time = microseconds(headers.get("ce-time"))
    if time is None:
        raise Unreadable("header ce-time is missing or no time")
    body = parsed(message["body"])
    if not isinstance(body, dict):
        raise Unreadable("the body is no JSON object")
    if int(kind[3]) == 1 and not isinstance(body.get("operation"), dict):
        raise Unreadable("the body has no operation")
    return event_id, kind[1], kind[2], int(kind[3]), time, body


# --- the row -------------------------------------------------------------------------------------------------------


def text_at(value, *way):
    for name in way:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def underscored(text):
    return text.replace("-", "_")


def kind(event_type, action, severity, resource, success=True, error_message=None):
    return locals()


def generic(entity, action, subject):
    entity, action = underscored(entity), underscored(action)
    return kind(f"{entity}_{action}", action, "info", (entity, subject))


DONE = {
    "file_create": "create",
    "file_update": "update",
    "file_delete": "delete",
    "mode_change": "update",
    "cache_rebuild": "update",
}


def of_element(element, entity, action, subject, snapshot, body):
    operation = text_at(body, "operation", "type") or ""
    file = text_at(body, "operation", "file_id")
    file = text_at(body, "file", "id") if file is None else file
    on_element = ("storage_element", element)
    resource = on_element if file is None else ("file", file)
    name = f"{entity}.{action}"
    if entity == "file" and snapshot == "backfill":
        return kind("file_snapshot", "snapshot", "info", resource)
    if name in ("file.created", "file.updated"):
        done = {"file.created": "create", "file.updated": "update"}[name]
        return kind(f"file_{done}", done, "info", resource)
    if name == "file.deleted":
        return kind("file_delete", "delete", "warning", resource)
    if name == "element.mode-changed":
        return kind("mode_change", "update", "warning", on_element)
    if name == "element.cache-rebuilt":
        return kind("cache_rebuild", "update", "info", on_element)
    if name in ("operation.rolled-back", "operation.failed"):
        severity = "error" if name == "operation.failed" else "warning"
        why = text_at(body, "operation", "error_message")
        return kind(operation, DONE.get(operation, operation), severity, resource, False, why)
    if name == "operation.recorded":
        return kind(operation, operation, "info", resource)
    found = generic(entity, action, subject)
    if entity == "source":
        found["resource"] = on_element
        if action in ("accepted", "damage-accepted"):
            found["severity"] = "warning"
    return found


def facts_of(body):
    data = body.get("data")
    if not isinstance(data, dict):
        return {}
    if "json" in data:
        return data["json"] if isinstance(data["json"], dict) else {"value": data["json"]}
    return {"text": data["text"]} if "text" in data else data


def of_outbox(entity, action, subject, facts):
    def fact(name):
        return text_at(facts, name)

    none, name, own = (None, None), f"{entity}.{action}", (underscored(entity), subject)
    if name in ("login.succeeded", "login.success"):
        return kind("login_success", "login", "info", none)
    if name == "login.failed":
        why = fact("reason")
        why = fact("error_message") if why is None else why
        return kind("login_failed", "login", "warning", none, False, why)
    if entity == "logout" or name == "session.ended":
        return kind("logout", "logout", "info", none)
    if entity in ("jwt-key", "jwt") and action in ("rotated", "rotation"):
        return kind("jwt_rotation", "rotation", "info", ("jwt_key", subject))
    if name == "service-account.secret-rotated":
        return kind("secret_rotation", "rotation", "info", own)
    if entity in ("access", "permission") and action in ("denied", "refused"):
        tried = action if fact("action") is None else fact("action")
        on = (fact("resource_type"), fact("resource_id"))
        return kind("permission_denied", tried, "warning", on, False, fact("reason"))
    if name == "search.performed":
        return kind("search_performed", "read", "info", none)
    if name == "file.downloaded":
        file = subject if fact("file_id") is None else fact("file_id")
        return kind("file_downloaded", "read", "info", ("file", file))
    if entity == "projection":
        action = underscored(action)
        return kind(f"projection_{action}", action, "warning", own)
    if entity in ("user", "service-account", "account", "storage-element", "jwt-key"):
        renamed = {"created": "create", "updated": "update", "deleted": "delete", "rotated": "rotate"}
        action = renamed.get(action, action)
        why = fact("error_message")
        failed = action.endswith("failed") or why is not None
        severity = "warning" if failed or action == "delete" else "info"
        action = underscored(action)
        return kind(f"{own[0]}_{action}", action, severity, own, not failed, why)
    return generic(entity, action, subject)


def data_of(mapping, entity, action, version, headers, element, body):
    event = {"type": f"artstore.{entity}.{action}.v{version}"}
    position = headers.get("artstore-position", "")
    if re.fullmatch(r"[+-]?\d+", position, re.A) and -(2**63) <= int(position) < 2**63:
        event["position"] = int(position) if abs(int(position)) <= SAFE else str(int(position))
    if "artstore-snapshot" in headers:
        event["snapshot"] = without_nul(headers["artstore-snapshot"])
    actor_facts = ("type", "token_id", "key_id") + (("identity", "database_role") if mapping == 2 else ())
    for field in actor_facts:
        value = text_at(body, "actor", field)
        if value is not None:
            event[f"actor_{field}"] = value
    if version == 1 and element is None:
        data = dict(facts_of(body))
    else:
        data = {name: value for name, value in body.items() if name != "actor"}
    if element is None and "omitted" in body:
        event["omitted"] = body["omitted"]
    if "_event" in data:
        data = {"value": data}
    return {**data, "_event": event}


def canonical(value):
    """RFC 8785."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(n)}:{canonical(value[n])}" for n in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def fields(vector):
    stream, message = vector["stream"], vector["message"]
    _, _, element = source_of(stream)
    unreadable = {
        "severity": "error",
        "actor_type": "system",
        "resource": ("stream", stream),
        "action": "record",
        "success": False,
        "created_at": microseconds(vector["published"]),
    }
    if message is None:
        reason = "the message is gone; an operator accepted that"
        facts = {"reason": reason}
        return {**unreadable, "event_type": "message_missing", "error_message": reason, "data": facts}
    headers = message["headers"]
    try:
        event_id, entity, action, version, time, body = read(stream, message)
    except Unreadable as reason:
        facts = {
            "reason": str(reason),
            "subject": without_nul(message["subject"]),
            "type": headers.get("ce-type"),
            "bytes": str(len(message["body"])),
            "sha256": hashlib.sha256(message["body"]).hexdigest(),
        }
        return {
            **unreadable,
            "event_id": uuid_of(headers.get("ce-id")),
            "event_type": "message_unreadable",
            "error_message": str(reason),
            "data": facts,
        }
    subject = decoded(headers["ce-subject"]) if "ce-subject" in headers else None
    if version != 1:
        found = generic(entity, action, subject)
    elif element is not None:
        snapshot = headers.get("artstore-snapshot")
        found = of_element(element, entity, action, subject, snapshot, body)
    else:
        found = of_outbox(entity, action, subject, facts_of(body))
    actor_type = text_at(body, "actor", "type")
    request = text_at(body, "operation", "request_id")
    if request is None and element is not None:
        request = text_at(body, "operation", "id")
    return {
        **found,
        "event_id": event_id,
        "event_type": found["event_type"][:200],
        "action": found["action"][:200],
        "actor_type": actor_type if actor_type in ("user", "service_account", "system") else "system",
        "actor_id": text_at(body, "actor", "id"),
        "actor_name": text_at(body, "actor", "name"),
        "actor_role": text_at(body, "actor", "role"),
        "ip_address": text_at(body, "actor", "address"),
        "user_agent": text_at(body, "actor", "user_agent"),
        "session_id": text_at(body, "actor", "session_id"),
        "request_id": request,
        "data": data_of(vector.get("mapping", 1), entity, action, version, headers, element, body),
        "created_at": time,
    }


def row_bytes(vector):
    row = fields(vector)
    row["resource_type"], row["resource_id"] = row["resource"]
    row["data"] = canonical(row["data"])

    def field(value):
        return b"\0" if value is None else b"\1" + struct.pack(">I", len(value)) + value

    def text(name):
        value = row.get(name)
        return field(None if value is None else value.encode())

    out = b"artstore/audit-row/v1\0" + struct.pack(">I", vector.get("mapping", 1)) + field(vector["stream"].encode())
    out += struct.pack(">Q", vector["sequence"]) + field(row.get("event_id"))
    for name in (
        "event_type severity actor_type actor_id actor_name actor_role resource_type resource_id action "
        "ip_address user_agent request_id session_id data"
    ).split():
        out += text(name)
    out += field(bytes([row["success"]])) + text("error_message")
    return out + field(struct.pack(">q", row["created_at"]))


def main(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    for vector in vectors:
        message = vector["message"]
        if message is not None:
            raw = message.get("body_base64")
            message["body"] = message["body"].encode() if raw is None else base64.b64decode(raw)
        computed = row_bytes(vector)
        assert computed.hex() == vector["row"], f"{vector['name']}: {computed!r}, not {bytes.fromhex(vector['row'])!r}"
    print(len(vectors), "rows agree")


main(sys.argv[1])
