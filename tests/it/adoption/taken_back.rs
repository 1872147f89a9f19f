//! An adoption that is undone.

use artstore_migrations::{Goal, MigrateError, Migrator, Origin, adopt, down, inspect, up};

use super::*;

#[test]
fn an_adoption_is_taken_back_without_touching_the_products_tables() {
    run(async {
        for module in modules() {
            let (_, mut connection) = product_database(&module, Made::ByMigrations).await;
            let columns = columns(&mut connection).await;
            let (before, made) = (
                rows(&mut connection, &columns).await,
                lines(&mut connection, &module).await,
            );
            for _ in 0..2 {
                adopt(&mut connection, &module).await.unwrap();
                up(&mut connection, &module, None).await.unwrap();
                assert_eq!(rows(&mut connection, &columns).await, before, "{module}");
                // The positions are lost; everything else is as it was.
                let migrator = Migrator::new(&mut connection, &module).accept_loss(true);
                migrator.run(Goal::Down(1)).await.unwrap();
                // Version 1 is the product's work: not ours to do again.
                let again = Migrator::new(&mut connection, &module).run(Goal::Redo);
                let refused = again.await.unwrap_err();
                assert!(
                    matches!(refused, MigrateError::NothingToRedo { .. }),
                    "{module}"
                );
                let origin = inspect(&mut connection, &module).await.unwrap().origin;
                assert!(
                    matches!(
                        origin,
                        Origin::Ours {
                            version: 1,
                            adopted: true
                        }
                    ),
                    "{module}"
                );
                let done = down(&mut connection, &module, 0).await.unwrap();
                assert_eq!(done.len(), 1);
                assert_eq!(rows(&mut connection, &columns).await, before, "{module}");
                assert_eq!(lines(&mut connection, &module).await, made, "{module}");
                let table = module.version_table();
                let gone = format!("select to_regclass('{table}') is null");
                assert!(value::<bool>(&mut connection, gone).await, "{module}");
            }
        }
    });
}
