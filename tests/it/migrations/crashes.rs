//! A migrator that is killed between two parts, and one that left an index unfinished: whichever
//! way it continues, it ends as if nothing had been.

use std::os::unix::process::ExitStatusExt as _;

use artstore_migrations::{Goal, Migrator, latest, status, up};

use super::every_way::{assert_same, catalogues};
use super::*;

fn migrate(url: &str, module: &Module, words: &[&str]) -> Program {
    let (name, variable) = match module {
        Module::Admin => ("admin", "ADMIN_DATABASE_URL"),
        Module::Query => ("query", "QUERY_DATABASE_URL"),
        Module::Storage(_) => ("storage", "STORAGE_DATABASE_URL"),
    };
    let arguments = [&["migrate"], words, &["--module", name]].concat();
    Program::new(&arguments).env(variable, url)
}

/// Kills a migration at one point after another, and continues up or down in turn.
async fn killed_everywhere(module: Module) {
    let url = database("killed").await;
    let mut conn = connect(&url).await;
    let at = catalogues(&mut conn, &module).await;
    let newest = latest(&module);
    let go = async |conn: &mut PgConnection, goal| {
        let migrator = Migrator::new(conn, &module).accept_loss(true);
        migrator.run(goal).await.unwrap();
    };
    go(&mut conn, Goal::Down(1)).await;
    filled::fill(&mut conn, &module, filled::FEW).await;
    let contents = filled::Contents::of(&mut conn).await;
    let before = contents.digests(&mut conn).await;

    for (words, start, away) in [
        (&["up"][..], Goal::Down(1), 1),
        (
            &["down", "--to", "1", "--accept-loss"][..],
            Goal::Up(None),
            newest,
        ),
    ] {
        let mut point = 1;
        loop {
            go(&mut conn, start).await;
            let (ended, log) = migrate(&url, &module, words)
                .crash_at("migrate.part", point)
                .finish()
                .await;
            if ended.success() {
                break;
            }
            assert_eq!(ended.signal(), Some(9), "{log}");
            // Back, or on: in turn, so that each point is continued in one of two ways.
            let goals = [
                (start, away),
                (
                    if away == 1 {
                        Goal::Up(None)
                    } else {
                        Goal::Down(1)
                    },
                    newest + 1 - away,
                ),
            ];
            let (goal, version) = goals[point % 2];
            go(&mut conn, goal).await;
            let what = format!("{module}, {words:?} killed at part {point}, then {goal:?}");
            assert_same(&what, &catalogue(&mut conn).await, &at[version as usize]);
            assert_eq!(contents.digests(&mut conn).await, before, "{what}");
            point += 1;
        }
        assert!(point > 3, "{module} has only {point} parts");
    }
}

#[test]
fn an_elements_migrator_is_killed_between_any_two_parts() {
    run(killed_everywhere(storage(ELEMENT)));
}

#[test]
fn the_query_modules_migrator_is_killed_between_any_two_parts() {
    run(killed_everywhere(Module::Query));
}

#[test]
fn the_admin_modules_migrator_is_killed_between_any_two_parts() {
    run(killed_everywhere(Module::Admin));
}

#[test]
fn a_step_left_unfinished_is_shown_and_finished_by_the_next_up() {
    run(async {
        let url = database("unfinished").await;
        let module = storage(ELEMENT);
        let mut conn = connect(&url).await;
        up(&mut conn, &module, Some(1)).await.unwrap();
        filled::fill(&mut conn, &module, filled::MANY).await;
        // In the middle of filling the vectors: the first two thousand are there, no more.
        let (ended, log) = migrate(&url, &module, &["up"])
            .crash_at("migrate.chunk", 1)
            .finish()
            .await;
        assert_eq!(ended.signal(), Some(9), "{log}");
        let filled =
            "select count(*)::text from storage_elem_01_files where search_vector is not null";
        assert_eq!(text(&mut conn, filled).await, "2000");
        let now = status(&mut conn, &module).await.unwrap();
        assert_eq!(now.version, 2);
        assert_eq!(
            now.steps
                .iter()
                .map(|step| step.unfinished)
                .collect::<Vec<_>>(),
            (1..=latest(&module))
                .map(|version| version == 3)
                .collect::<Vec<_>>()
        );
        let (_, shown) = migrate(&url, &module, &["status"]).output().await;
        assert!(
            shown.contains("0003 search_vector            unfinished: go on with up or down"),
            "{shown}"
        );

        let (ended, log) = migrate(&url, &module, &["up"]).finish().await;
        assert!(ended.success(), "{log}");
        assert_eq!(text(&mut conn, filled).await, "2500");
        assert!(
            !status(&mut conn, &module)
                .await
                .unwrap()
                .steps
                .iter()
                .any(|step| step.unfinished)
        );
    });
}

#[test]
fn an_index_that_a_crash_left_unfinished_is_built_anew() {
    run(async {
        let mut conn = fresh("invalid").await;
        up(&mut conn, &Module::Query, Some(1)).await.unwrap();
        filled::fill(&mut conn, &Module::Query, filled::MANY).await;
        // What a build leaves that ended half-way.
        exec(&mut conn, "insert into search_history (search_mode, results_count, response_time_ms) values ('exact', 1, 1)").await;
        let build = "create unique index concurrently ix_file_metadata_cache_sha256_hash_plain on file_metadata_cache (username)";
        assert_eq!(refusal(&mut conn, build).await.0, "23505");
        assert_eq!(
            text(
                &mut conn,
                "select count(*)::text from pg_index where not indisvalid"
            )
            .await,
            "1"
        );
        up(&mut conn, &Module::Query, Some(2)).await.unwrap();
        assert_eq!(
            text(
                &mut conn,
                "select count(*)::text from pg_index where not indisvalid"
            )
            .await,
            "0"
        );
        let index = "select indexdef from pg_indexes where indexname = 'ix_file_metadata_cache_sha256_hash'";
        assert_eq!(
            text(&mut conn, index).await,
            "CREATE INDEX ix_file_metadata_cache_sha256_hash ON public.file_metadata_cache USING btree (sha256_hash)"
        );
    });
}
