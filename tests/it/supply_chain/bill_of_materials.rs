//! `scripts/sbom`: every crate that is linked into the program, with version, licence and checksum.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::repository::{repository, text, tool};

/// As `scripts/sbom` writes it for the platform that most run.
fn bill() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str| {
        let file = folder.path().join(name);
        let status = Command::new(repository("scripts/sbom"))
            .args(["--target", "x86_64-unknown-linux-gnu", "--output"])
            .arg(&file)
            .env("CARGO", env!("CARGO"))
            .status();
        assert!(status.unwrap().success());
        std::fs::read_to_string(file).unwrap()
    };
    let text = written("first.json");
    assert_eq!(text, written("second.json"), "not the same bytes");
    serde_json::from_str(&text).unwrap()
}

/// Names and versions in the lines of a `cargo tree`, but for macros, which are linked into the compiler.
fn cargo_tree() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args("tree --locked --package artstore --edges normal --prefix none".split(' '))
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .current_dir(repository("."))
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    // What a macro itself needs stands below it and nowhere else: these do.
    let lines = output.lines().filter(|line| !line.contains("(proc-macro)"));
    let names = lines.map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        format!("{name}@{}", words.next().unwrap().trim_start_matches('v'))
    });
    names.collect()
}

#[test]
fn the_bill_of_materials_has_what_is_linked_in() {
    let bill = bill();
    let schema = std::fs::read_to_string(tool("cyclonedx", "bom-1.6.json")).unwrap();
    // Neither signatures nor single identifiers of licences are used.
    let schema = schema
        .replace("\"$ref\": \"spdx.SNAPSHOT.schema.json\"", "\"const\": 0")
        .replace(
            "\"$ref\": \"jsf-0.82.SNAPSHOT.schema.json#/definitions/signature\"",
            "\"const\": 0",
        );
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors = |bill: &Value| -> Vec<String> {
        let errors = validator.iter_errors(bill);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    };
    assert_eq!(errors(&bill), [""; 0]);
    let mut wrong = bill.clone();
    wrong["components"][0]["hashes"][0]["content"] = Value::from("of no length");
    assert_ne!(errors(&wrong), [""; 0]);

    let program = &bill["metadata"]["component"];
    assert_eq!(program["name"], "artstore");
    assert_eq!(program["version"], env!("CARGO_PKG_VERSION"));
    let components = bill["components"].as_array().unwrap();
    let field = |component: &Value, name: &str| component[name].as_str().unwrap().to_owned();
    let mut scopes: BTreeMap<String, String> = components
        .iter()
        .map(|component| (field(component, "bom-ref"), field(component, "scope")))
        .collect();
    assert_eq!(scopes.len(), components.len(), "one is listed twice");
    scopes.insert(field(program, "bom-ref"), field(program, "scope"));
    let of_scope = |wanted: &str| -> BTreeSet<&str> {
        let found = scopes.iter().filter(|(_, scope)| *scope == wanted);
        found.map(|(name, _)| name.as_str()).collect()
    };
    let (linked, built) = (of_scope("required"), of_scope("excluded"));
    assert_eq!(linked.len() + built.len(), scopes.len());
    let tree = cargo_tree();
    let unknown: Vec<_> = linked
        .iter()
        .filter(|name| !tree.contains(**name))
        .collect();
    assert!(unknown.is_empty(), "not linked in: {unknown:?}");
    // What only a macro needs is in the tree, and is not linked into the program.
    let missing = tree.iter().filter(|name| !linked.contains(name.as_str()));
    let missing: Vec<_> = missing
        .filter(|name| !built.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not listed: {missing:?}");
    let named = |names: &BTreeSet<&str>, name: &str| {
        names.iter().any(|all| all.split('@').next() == Some(name))
    };
    for name in [
        "artstore-bus",
        "async-nats",
        "sqlx-postgres",
        "aws-lc-sys",
        "jsonwebtoken",
    ] {
        assert!(named(&linked, name), "{name} is linked in");
    }
    for name in ["syn", "cc", "clap_derive"] {
        assert!(
            named(&built, name) && !named(&linked, name),
            "{name} only builds"
        );
    }
    // For tests; and crates that Cargo.lock has for features that are not turned on.
    for name in [
        "proptest",
        "jsonschema",
        "sqlx-sqlite",
        "ring",
        "openssl-sys",
    ] {
        assert!(!named(&linked, name) && !named(&built, name), "{name}");
    }

    let lock = text("Cargo.lock");
    for component in components {
        let (name, version) = (field(component, "name"), field(component, "version"));
        let licence = component["licenses"][0]["expression"].as_str();
        assert!(licence.is_some_and(|licence| !licence.is_empty()), "{name}");
        let Some(checksum) = component["hashes"][0]["content"].as_str() else {
            assert!(name.starts_with("artstore-"), "{name} has no checksum");
            continue;
        };
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let (_, entry) = lock.split_once(&entry).unwrap();
        let entry = entry.split("\n\n").next().unwrap();
        assert!(
            entry.contains(&format!("checksum = \"{checksum}\"")),
            "{name}"
        );
        assert_eq!(component["purl"], format!("pkg:cargo/{name}@{version}"));
    }
    let edges = bill["dependencies"].as_array().unwrap();
    assert_eq!(edges.len(), scopes.len());
    for edge in edges {
        let to = edge["dependsOn"].as_array().unwrap();
        for name in to.iter().chain([&edge["ref"]]) {
            assert!(scopes.contains_key(name.as_str().unwrap()), "{name}");
        }
    }
}
