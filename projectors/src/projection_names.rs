//! The names of our projections, as in their checkpoints.

/// What people search ([`crate::query_cache`]).
pub const QUERY_CACHE: &str = "query-cache";

/// Who did what, provably ([`crate::audit_log`]).
pub const AUDIT_LOG: &str = "audit-log";

/// What administrators see of storage elements ([`crate::element_registry`]).
pub const ELEMENT_REGISTRY: &str = "element-registry";
