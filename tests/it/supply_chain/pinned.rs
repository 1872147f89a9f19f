//! Everything that is fetched has a version, and a hash where it comes from a registry.

use serde_json::Value;

use crate::support::repository::{repository, text};

#[test]
fn every_crate_comes_from_the_registry_with_a_checksum() {
    let lock = text("Cargo.lock");
    let packages: Vec<&str> = lock.split("[[package]]\n").skip(1).collect();
    assert!(packages.len() > 200, "{}", packages.len());
    for package in packages {
        let name = package.lines().next().unwrap();
        let is_ours = name.starts_with("name = \"artstore");
        let has_source =
            package.contains("source = \"registry+https://github.com/rust-lang/crates.io-index\"");
        assert_eq!(!is_ours, has_source, "{name}");
        assert_eq!(!is_ours, package.contains("\nchecksum = \""), "{name}");
    }
}

#[test]
fn every_package_of_python_and_node_has_hashes() {
    let mut lists = vec![text("schemas/clients/requirements.txt")];
    for entry in std::fs::read_dir(repository("scripts")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".requirements.txt") {
            lists.push(std::fs::read_to_string(path).unwrap());
        }
    }
    assert!(lists.len() >= 3);
    for list in lists {
        let list = list.replace("\\\n", " ");
        for line in list
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            assert!(
                line.contains("==") && line.contains(" --hash=sha256:"),
                "{line}"
            );
        }
    }
    let lock: Value = serde_json::from_str(&text("schemas/clients/package-lock.json")).unwrap();
    let packages = lock["packages"].as_object().unwrap();
    assert!(packages.len() > 3);
    for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
        let integrity = package["integrity"].as_str();
        assert!(
            integrity.is_some_and(|hash| hash.starts_with("sha512-")),
            "{name}"
        );
    }
}

/// What these clients are told: to take nothing without a hash, no newer version, and to run no script of a package.
#[test]
fn nothing_is_fetched_in_another_way() {
    let setup = text("scripts/setup").replace("\\\n", " ");
    let calls = |word: &str| -> Vec<String> {
        let lines = setup.lines().map(|line| line.trim().to_owned());
        let lines = lines.filter(|line| !line.starts_with('#') && line.contains(word));
        // Advice to people has them too, between quotes.
        lines.filter(|line| !line.starts_with("lacks ")).collect()
    };
    let pip = [calls("pip install"), calls("\" download")].concat();
    assert_eq!(pip.len(), 2, "{pip:?}");
    assert!(
        pip.iter()
            .all(|call| call.contains("--require-hashes") && call.contains("--no-deps"))
    );
    let npm = calls("npm ci");
    assert_eq!(npm.len(), 1);
    assert!(npm[0].contains("--ignore-scripts"));
    assert_eq!(calls("npm install"), [""; 0]);
    let cargo = calls("cargo install");
    assert_eq!(cargo.len(), 3);
    assert!(
        cargo
            .iter()
            .all(|call| call.contains("--locked") && call.contains("_pinned\"")),
        "{cargo:?}"
    );
    for other in ["curl", "wget", "git clone"] {
        assert_eq!(calls(other), [""; 0]);
    }
}
