//! Migrated databases: each is a copy of one that was migrated once, because a copy costs a fraction of the
//! migrations. What migrations themselves do is tested on databases that they have run on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use artstore_migrations::Module;
use artstore_stack::Stack;
use sqlx::Connection as _;
use tokio::sync::OnceCell;

use super::{database_on, execute, migrate, pg};

/// A stack's folder, and a module.
type Key = (PathBuf, String);

/// The name of the database that is copied.
type Template = Arc<OnceCell<String>>;

static TEMPLATES: LazyLock<Mutex<HashMap<Key, Template>>> = LazyLock::new(Mutex::default);

/// A fresh database with a module's tables.
pub async fn migrated_on(stack: &Stack, hint: &str, module: Module) -> String {
    let key = (stack.directory().to_owned(), module.to_string());
    let template = Arc::clone(TEMPLATES.lock().unwrap().entry(key).or_default());
    let template = template
        .get_or_init(|| async {
            let url = database_on(stack, hint).await;
            migrate(&url, module).await;
            let (_, name) = url.rsplit_once('/').unwrap();
            // Nobody can be connected to a database while it is copied.
            let mut connection = pg(&stack.database_url("postgres")).await;
            let sql = format!("alter database {name} allow_connections false");
            execute(&mut connection, sql).await;
            let sql = format!(
                "select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = '{name}'"
            );
            execute(&mut connection, sql).await;
            connection.close().await.unwrap();
            name.to_owned()
        })
        .await;
    let name = super::database_name(hint);
    let mut connection = pg(&stack.database_url("postgres")).await;
    execute(
        &mut connection,
        format!("create database \"{name}\" template \"{template}\""),
    )
    .await;
    connection.close().await.unwrap();
    stack.database_url(&name)
}
