//! `artstore audit keygen`: wherever it is interrupted, running it again leaves a key that works.

use std::os::unix::fs::PermissionsExt as _;

use artstore_projectors::audit_log::note::SignerKey;

use super::{Audited, KEY_NAME};
use crate::support::*;

#[test]
fn a_key_whose_making_was_cut_off_is_made_by_the_next_run() {
    run(async {
        let folder = folder("keygen");
        let (key, keys) = (folder.join("signing.key"), folder.join("verifier.keys"));
        let keygen = || {
            Program::new(&["audit", "keygen", "--name", KEY_NAME, "--out"])
                .argument(key.to_str().unwrap())
                .argument("--verifier-keys")
                .argument(keys.to_str().unwrap())
        };
        let public = || std::fs::read_to_string(&keys).unwrap();

        let (status, log) = keygen().crash_at("keygen.public", 1).finish().await;
        assert_eq!(status.code(), None, "{log}");
        assert!(!key.exists(), "no key without its public one");
        assert_eq!(public().lines().count(), 1);
        let (status, log) = keygen().finish().await;
        assert!(status.success(), "{log}");
        let private = std::fs::read_to_string(&key).unwrap();
        let signer = SignerKey::parse(&private).unwrap();
        let last = signer.verifier().to_string();
        assert_eq!(public().lines().last(), Some(last.as_str()));
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Nothing beside the two, in whatever hands.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);

        // A key that is there stays.
        let before = public();
        let (status, log) = keygen().finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("nothing was written"), "{log}");
        assert_eq!(std::fs::read_to_string(&key).unwrap(), private);
        assert_eq!(public(), before);

        // An empty one, as earlier programs left it: it is named with what to do.
        std::fs::write(&key, "").unwrap();
        let (status, log) = keygen().finish().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("remove the file"), "{log}");
        assert_eq!(public(), before);
        let world = World::new(&[]).await;
        let world = Audited {
            world: &world,
            key: key.clone(),
            keys: keys.clone(),
        };
        let (status, log) = world.projector().finish().await;
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains("is empty: the making of the key"), "{log}");
        assert!(log.contains("artstore audit keygen --out"), "{log}");
    });
}
