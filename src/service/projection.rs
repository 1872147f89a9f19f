//! The projections that the program can run.

use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector;
use artstore_projectors::projector_error::WorkerError;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database::connect;
use clap::ValueEnum;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

/// A projection that people may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Projection {
    /// What people search.
    QueryCache,
    /// Who did what, provably.
    AuditLog,
    /// What administrators see of storage elements.
    ElementRegistry,
}

impl Projection {
    /// Its name, as in its checkpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueryCache => QueryCache::NAME,
            Self::AuditLog => AuditLog::NAME,
            Self::ElementRegistry => ElementRegistry::NAME,
        }
    }

    /// The version of its tables.
    pub fn version(self) -> u32 {
        match self {
            Self::QueryCache => QueryCache::VERSION,
            Self::AuditLog => AuditLog::VERSION,
            Self::ElementRegistry => ElementRegistry::VERSION,
        }
    }

    /// Connects to its tables.
    pub async fn connect(self, database: &PgConnectOptions) -> Result<PgConnection, WorkerError> {
        let name = "artstore projector (lag)";
        match self {
            Self::QueryCache => connect::<QueryCache>(database, name).await,
            Self::AuditLog => connect::<AuditLog>(database, name).await,
            Self::ElementRegistry => connect::<ElementRegistry>(database, name).await,
        }
    }
}
