//! Rows as events of the Open Cybersecurity Schema Framework, version 1.5.0:
//!
//! | rows | class |
//! |---|---|
//! | of files | File Hosting Activity (6006) |
//! | logins, logouts | Authentication (3002) |
//! | of users and service accounts | Account Change (3001) |
//! | all others | Entity Management (3004) |
//!
//! What no attribute of the class has stands under `unmapped`, with the row's place in the log and
//! its signature.

use std::net::IpAddr;

use artstore_projectors::audit_log::row::Row;
use artstore_projectors::audit_log::store::Stored;
use serde_json::{Map, Value, json};

use super::super::select::checked;
use artstore_verification::audit::shown::Verdict;

/// The version that these events are of.
pub const VERSION: &str = "1.5.0";

/// What every class calls an activity that it has no number for.
const OTHER: u32 = 99;

/// Stands where an attribute is required and nobody knows.
const UNKNOWN: &str = "unknown";

/// A class, and which of its activities a row is.
struct Class {
    uid: u32,
    name: &'static str,
    activity: u32,
    activity_name: String,
    /// What the class has besides the attributes of all.
    own: Vec<(&'static str, Value)>,
}

/// The event of a row.
pub fn event(stored: &Stored, verdict: &Verdict) -> Value {
    let row = &stored.row;
    let all = checked(stored, verdict);
    let class = class(row, &all["data"]);
    let (severity_id, severity) = severity(&row.severity);
    let category = class.uid / 1_000;
    let category_name = match category {
        6 => "Application Activity",
        _ => "Identity & Access Management",
    };
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| event.insert(name.to_owned(), value);
    put("class_uid", class.uid.into());
    put("class_name", class.name.into());
    put("category_uid", category.into());
    put("category_name", category_name.into());
    put("activity_id", class.activity.into());
    put("activity_name", class.activity_name.into());
    put("type_uid", (class.uid * 100 + class.activity).into());
    put("severity_id", severity_id.into());
    put("severity", severity.into());
    put("status_id", if row.success { 1 } else { 2 }.into());
    put(
        "status",
        if row.success { "Success" } else { "Failure" }.into(),
    );
    if let Some(reason) = &row.error_message {
        put("status_detail", reason.clone().into());
    }
    put("time", row.created_at.div_euclid(1_000).into());
    put("message", message(row).into());
    put("metadata", metadata(stored));
    put("actor", actor(row));
    put("src_endpoint", endpoint(row));
    for (name, value) in class.own {
        put(name, value);
    }
    put("unmapped", all);
    Value::Object(event)
}

fn class(row: &Row, data: &Value) -> Class {
    let kind = row.event_type.as_str();
    let agent = row.user_agent.as_ref();
    let http = agent.map(|agent| ("http_request", json!({"user_agent": agent})));
    match (kind, row.resource_type.as_deref()) {
        ("login_success" | "login_failed" | "logout", _) => {
            let (activity, activity_name) = match kind {
                "logout" => (2, "Logoff"),
                _ => (1, "Logon"),
            };
            let name = data["username"].as_str().map(str::to_owned);
            let name = name.or_else(|| row.actor_name.clone());
            Class {
                uid: 3_002,
                name: "Authentication",
                activity,
                activity_name: activity_name.to_owned(),
                own: [
                    ("user", user(row.actor_id.clone(), name, 0)),
                    ("service", json!({"name": "ArtStore"})),
                ]
                .into_iter()
                .chain(http)
                .collect(),
            }
        }
        (_, Some("file")) => {
            let (activity, activity_name) = match kind {
                "file_create" => (1, "Upload".to_owned()),
                "file_downloaded" => (2, "Download".to_owned()),
                "file_update" => (3, "Update".to_owned()),
                "file_delete" => (4, "Delete".to_owned()),
                _ => (OTHER, row.action.clone()),
            };
            let id = row.resource_id.clone();
            let name = ["original_filename", "filename", "name"]
                .iter()
                .find_map(|field| data["file"][field].as_str());
            let name = name.map(str::to_owned).or_else(|| id.clone());
            let mut file =
                json!({"name": name.unwrap_or_else(|| UNKNOWN.to_owned()), "type_id": 1});
            if let Some(id) = id {
                file["uid"] = id.into();
            }
            Class {
                uid: 6_006,
                name: "File Hosting Activity",
                activity,
                activity_name,
                own: vec![("file", file)],
            }
        }
        (_, Some(account @ ("user" | "service_account"))) => {
            let (activity, activity_name) = match row.action.as_str() {
                "create" => (1, "Create".to_owned()),
                "delete" => (6, "Delete".to_owned()),
                other => (OTHER, other.to_owned()),
            };
            let name = data["username"].as_str().or_else(|| data["name"].as_str());
            let name = name.map(str::to_owned);
            // 1: a person; 3: a system's account.
            let type_id = if account == "user" { 1 } else { 3 };
            Class {
                uid: 3_001,
                name: "Account Change",
                activity,
                activity_name,
                own: [("user", user(row.resource_id.clone(), name, type_id))]
                    .into_iter()
                    .chain(http)
                    .collect(),
            }
        }
        (_, resource) => {
            let (activity, activity_name) = match row.action.as_str() {
                "create" => (1, "Create".to_owned()),
                "read" => (2, "Read".to_owned()),
                "update" => (3, "Update".to_owned()),
                "delete" => (4, "Delete".to_owned()),
                other => (OTHER, other.to_owned()),
            };
            let what = resource.unwrap_or(kind);
            let mut entity =
                json!({"type": what, "name": row.resource_id.as_deref().unwrap_or(what)});
            if let Some(id) = &row.resource_id {
                entity["uid"] = id.clone().into();
            }
            Class {
                uid: 3_004,
                name: "Entity Management",
                activity,
                activity_name,
                own: [("entity", entity)].into_iter().chain(http).collect(),
            }
        }
    }
}

fn severity(severity: &str) -> (u32, &'static str) {
    match severity {
        "info" => (1, "Informational"),
        "warning" => (3, "Medium"),
        "error" => (4, "High"),
        "critical" => (5, "Critical"),
        _ => (OTHER, "Other"),
    }
}

fn message(row: &Row) -> String {
    let result = if row.success { "" } else { " failed" };
    match (&row.resource_type, &row.resource_id) {
        (Some(kind), Some(id)) => format!("{}{result}: {kind} {id}", row.event_type),
        (Some(kind), None) => format!("{}{result}: {kind}", row.event_type),
        (None, _) => format!("{}{result}", row.event_type),
    }
}

fn metadata(stored: &Stored) -> Value {
    let row = &stored.row;
    let mut metadata = json!({
        "version": VERSION,
        "product": {"name": "ArtStore", "vendor_name": "ArtStore"},
        "event_code": row.event_type,
        "log_name": row.stream,
        "uid": match row.event_id {
            Some(id) => id.to_string(),
            None => format!("audit_logs/{}", stored.id),
        },
    });
    if let Some(request) = &row.request_id {
        metadata["correlation_uid"] = request.clone().into();
    }
    metadata
}

fn actor(row: &Row) -> Value {
    let type_id = match row.actor_type.as_str() {
        "user" => 1,
        "system" | "service_account" => 3,
        _ => 0,
    };
    let name = row
        .actor_name
        .clone()
        .or_else(|| (row.actor_id.is_none()).then(|| row.actor_type.clone()));
    let mut actor = json!({"user": user(row.actor_id.clone(), name, type_id)});
    if let Some(session) = &row.session_id {
        actor["session"] = json!({"uid": session});
    }
    actor
}

fn user(id: Option<String>, name: Option<String>, type_id: u32) -> Value {
    let mut user = json!({"type_id": type_id});
    if id.is_none() && name.is_none() {
        user["name"] = UNKNOWN.into();
    }
    if let Some(id) = id {
        user["uid"] = id.into();
    }
    if let Some(name) = name {
        user["name"] = name.into();
    }
    user
}

/// Where it came from; what is no address stands under `unmapped`.
fn endpoint(row: &Row) -> Value {
    let address = row.ip_address.as_deref();
    match address.and_then(|address| address.parse::<IpAddr>().ok()) {
        Some(ip) => json!({"ip": ip.to_string()}),
        None => json!({"name": UNKNOWN}),
    }
}
