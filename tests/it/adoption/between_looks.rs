//! Tables that somebody changes after they were checked and before they are adopted.

use super::*;

/// The command looks at the query module's tables, then at the element's, where it is held up. What
/// it finds in the first ones when it is about to adopt them blocks.
#[test]
fn tables_that_change_between_two_looks_stop_the_command() {
    run(async {
        let (url, mut element) = product_database(&storage(), Made::ByMigrations).await;
        let (query_url, mut query) = product_database(&Module::Query, Made::ByMigrations).await;
        let before = lines(&mut element, &storage()).await;
        let mut holder = pg(&url).await;
        execute(&mut holder, format!("begin; lock table {ELEMENT}_wal")).await;
        let mut adopting = Program::new(&["migrate", "adopt", "--up"])
            .env("ARTSTORE_ELEMENTS", &format!("{ELEMENT}={url}"))
            .env("QUERY_DATABASE_URL", &query_url)
            .start();
        eventually("it looks at the element's tables", || async {
            let mut watching = pg(&url).await;
            let sql = format!(
                "select exists (select from pg_locks where not granted and relation = '{ELEMENT}_wal'::regclass)"
            );
            value::<bool>(&mut watching, sql).await.then_some(())
        })
        .await;
        execute(
            &mut query,
            "alter table search_history drop column search_mode",
        )
        .await;
        let changed = lines(&mut query, &Module::Query).await;
        execute(&mut holder, "rollback").await;

        let status = adopting.ended().await;
        let said = adopting.output();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("blocks     column search_history.search_mode is missing"),
            "{said}"
        );
        assert!(said.contains("not adopted, nothing was changed"), "{said}");
        // What comes after it is left alone, too.
        assert!(said.contains("because another database can't be"), "{said}");
        assert_eq!(lines(&mut query, &Module::Query).await, changed);
        assert_eq!(lines(&mut element, &storage()).await, before);
    });
}
