//! A connection pooler between the program and PostgreSQL.

use std::process::{Command, Stdio};

use super::*;
use crate::support::*;

/// A running pgbouncer in front of the shared stack's PostgreSQL, in transaction pooling mode.
struct Pooler {
    _process: tokio::process::Child,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Pooler {
    async fn start(settings: &str) -> Self {
        let stack = shared_stack().await;
        let url: url::Url = stack.database_url("postgres").parse().unwrap();
        let (user, password) = (url.username(), url.password().unwrap());
        // Its user can pass through to this one, and nobody else can.
        let home = stack.postgres_data().parent().unwrap().to_owned();
        let folder = tempfile::tempdir_in(home).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).unwrap();
        let port = free_port();
        let users = folder.path().join("users.txt");
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        let configuration = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {}\npool_mode = transaction\n{settings}\n",
            stack.postgres_port(),
            users.display(),
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = tokio::process::Command::new("setpriv");
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        if root {
            // It refuses to run as root.
            command.args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--clear-groups",
            ]);
        }
        let mut process = command
            .args(["--pdeathsig", "KILL", "--", "pgbouncer", "--quiet"])
            .arg(&configuration)
            .env(
                "PATH",
                format!("{}:/usr/sbin", std::env::var("PATH").unwrap()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually(
            "pgbouncer answers (scripts/setup --tests installs it)",
            || {
                let ended = process.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "pgbouncer ended: run scripts/setup --tests"
                );
                async move {
                    tokio::net::TcpStream::connect(("127.0.0.1", port))
                        .await
                        .ok()
                }
            },
        )
        .await;
        Self {
            _process: process,
            _folder: folder,
            port,
        }
    }
}

#[test]
fn a_pooler_in_between_is_refused() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        let direct = &world.elements[0].1;
        let tolerant = "ignore_startup_parameters = extra_float_digits";
        let one = "default_pool_size = 1\nignore_startup_parameters = extra_float_digits";
        for settings in ["", tolerant, one] {
            let pooler = Pooler::start(settings).await;
            let pooled = other(direct, |url| url.set_port(Some(pooler.port)).unwrap());
            let elements = format!("elem={pooled}");
            let query = other(&world.query_url, |url| {
                url.set_port(Some(pooler.port)).unwrap();
            });
            let projector = world.projector().env("QUERY_DATABASE_URL", &query);
            refused(
                projector,
                1,
                &["pooler", "QUERY_DATABASE_URL", "direct connection"],
            )
            .await;
            let relay = || world.relay(0).env("ARTSTORE_ELEMENTS", &elements);
            // The first finds fresh sessions, the second those that the first has used.
            for _ in 0..2 {
                refused(relay(), 1, &["source elem", "pooler", "direct connection"]).await;
            }
            // Others use the pool too.
            let busy: Vec<_> = (0..8)
                .map(|_| tokio::spawn(query_for_ever(pooled.clone())))
                .collect();
            if !settings.is_empty() {
                for _ in 0..5 {
                    refused(relay(), 1, &["source elem", "pooler", "direct connection"]).await;
                }
            }
            for client in busy {
                client.abort();
            }
        }
        before.check(&world).await;
    });
}

/// A client of a pool that other programs use as well.
async fn query_for_ever(url: String) {
    loop {
        let Ok(mut connection) = try_pg(&url).await else {
            tokio::task::yield_now().await;
            continue;
        };
        while try_execute(&mut connection, "begin; select 1; commit")
            .await
            .is_ok()
        {}
    }
}
