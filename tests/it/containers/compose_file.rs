//! compose.yaml without an engine: it is valid by its specification, contains no
//! secret, and confines every container. What it starts is started in `processes`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::containers::dockerfile::Stage;
use crate::support::compose::{self, filled, is_pinned, services, words};
use crate::support::repository::{repository, text, tool};

#[test]
fn compose_yaml_has_the_form_of_the_compose_specification() {
    let schema = std::fs::read_to_string(tool("compose-spec", "compose-spec.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors = |root: &Value| {
        let errors = validator.iter_errors(root);
        let errors = errors.map(|error| format!("{}: {error}", error.instance_path()));
        errors.collect::<Vec<_>>()
    };
    let root = filled();
    assert_eq!(errors(&root), [""; 0]);
    // It does see mistakes.
    for (path, wrong) in [
        ("/services/relay/restarts", Value::from("always")),
        ("/services/relay/healthcheck/test", Value::from(5)),
        (
            "/services/relay/depends_on/nats",
            serde_json::json!({"condition": "healthy"}),
        ),
        ("/service", Value::Null),
    ] {
        let mut broken = root.clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap()[field] = wrong;
        assert!(!errors(&broken).is_empty(), "{path}");
    }

    // What a schema can't say: names lead somewhere.
    for (name, service) in services(&root) {
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let other = &root["services"][other];
            match how["condition"].as_str().unwrap() {
                "service_healthy" => assert!(!other["healthcheck"].is_null(), "{name}: {how}"),
                "service_completed_successfully" => {
                    assert_eq!(other["restart"], "on-failure:5", "{name}: it has to end");
                }
                other => panic!("{name}: {other}"),
            }
        }
        for network in words(&service["networks"]) {
            assert!(
                !root["networks"][&network].is_null(),
                "{name}: network {network}"
            );
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            if source.starts_with('.') {
                assert!(repository(source).exists(), "{name}: {source}");
            } else {
                assert!(
                    !root["volumes"][source].is_null(),
                    "{name}: volume {source}"
                );
            }
        }
    }
}

#[test]
fn no_secret_has_a_default_and_each_that_is_missing_is_named() {
    let (needed, defaults) = compose::example();
    let known: BTreeSet<String> = needed.iter().chain(defaults.keys()).cloned().collect();
    assert_eq!(
        compose::used(),
        known,
        ".env.example has what compose.yaml uses"
    );
    for name in &needed {
        for value in [None, Some("")] {
            let mut variables = compose::some_variables();
            variables.remove(name);
            variables.extend(value.map(|value| (name.clone(), value.to_owned())));
            let refused = compose::filled_with(&variables).unwrap_err();
            assert_eq!(refused, format!("{name}: set it in .env"));
        }
    }
    let compose = text("compose.yaml");
    for (name, value) in &defaults {
        assert!(
            !name.contains("PASSWORD") && !name.contains("SECRET"),
            "{name} has a default"
        );
        let default = format!("${{{name}:-{value}}}");
        assert!(
            compose.contains(&default),
            "{name}: {value:?} is not its default"
        );
    }
    // No password stands in a file.
    for file in ["compose.yaml", "Dockerfile", "deploy/nats/nats.conf"] {
        for line in text(file)
            .lines()
            .filter(|line| !line.trim().starts_with('#'))
        {
            let url = line
                .split_once("://")
                .and_then(|(_, rest)| rest.split_once('@'));
            if let Some((login, _)) = url {
                let (_, password) = login.split_once(':').unwrap();
                assert!(
                    password.starts_with("${") && password.contains(":?"),
                    "{line}"
                );
            }
            if let Some((_, password)) = line.split_once("password:") {
                assert!(password.trim().starts_with('$'), "{line}");
            }
        }
    }
    let ignored = text(".dockerignore") + &text(".gitignore");
    assert_eq!(ignored.matches(".env").count(), 3, "{ignored}");
}

#[test]
fn every_container_is_confined_and_says_how_it_starts_and_ends() {
    let root = filled();
    for (name, service) in services(&root) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(
            words(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name}"
        );
        let limits = &service["deploy"]["resources"]["limits"];
        for limit in ["memory", "pids"] {
            assert!(!limits[limit].is_null(), "{name}: {limit}");
        }
        // More cores than a machine has stop its containers.
        assert!(limits["cpus"].is_null(), "{name}");
        assert_eq!(service["logging"]["options"]["max-file"], "5", "{name}");
        assert!(
            service["privileged"].is_null() && service["cap_add"].is_null(),
            "{name}"
        );
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(
                port.as_str().unwrap().starts_with("127.0.0.1:"),
                "{name}: {port}"
            );
        }
        assert!(is_pinned(service["image"].as_str().unwrap()), "{name}");
        // One service builds an image; the others of that image neither build nor pull it.
        let same = services(&root).filter(|(_, other)| other["image"] == service["image"]);
        let builds = same
            .map(|(_, other)| &other["build"])
            .filter(|build| !build.is_null());
        let builds: Vec<&Value> = builds.collect();
        assert!(builds.len() <= 1, "{name}: {builds:?}");
        // No registry is asked for an image that is built here.
        if !builds.is_empty() && name != "nats" {
            assert_eq!(service["pull_policy"], "never", "{name}");
        }
        if service["build"].is_null() && !builds.is_empty() && name != "nats-permissions" {
            assert!(!service["depends_on"]["migrate"].is_null(), "{name}");
        }
        let stage = builds.first().and_then(|build| build["target"].as_str());
        let stage = stage.map(Stage::named);
        let user = match &stage {
            Some(stage) => stage.last("USER"),
            None => service["user"].as_str(),
        };
        let (user, group) = user.and_then(|user| user.split_once(':')).unwrap();
        let (user, group): (u32, u32) = (user.parse().unwrap(), group.parse().unwrap());
        assert!(user > 0 && group > 0, "{name}");
        let stays = !matches!(name, "migrate" | "nats-permissions" | "tools");
        assert_eq!(service["restart"] == "unless-stopped", stays, "{name}");
        assert_eq!(!service["healthcheck"]["test"].is_null(), stays, "{name}");
        assert_eq!(!service["stop_grace_period"].is_null(), stays, "{name}");
    }
    let after = |service: &str| {
        let on = root["services"][service]["depends_on"].as_object().unwrap();
        on.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(after("nats"), ["nats-permissions"]);
    assert_eq!(after("migrate"), ["nats", "postgres"]);
    assert_eq!(after("relay"), ["migrate", "nats", "postgres"]);
    assert_eq!(after("projector"), ["migrate", "nats", "postgres"]);
    assert_eq!(after("audit"), ["migrate", "nats", "postgres"]);
    // Whoever gives a command is named in its record; nobody gives one to a service.
    for (name, service) in services(&root) {
        let passed_on = compose::passed_on(service);
        let operator = ["ARTSTORE_OPERATOR", "ARTSTORE_TOKEN", "SUDO_USER", "USER"];
        let operator = if name == "tools" { &operator[..] } else { &[] };
        assert_eq!(passed_on, operator, "{name}");
    }
    // The secret and the key are where they are needed, and the key can be read there alone.
    for (name, service) in services(&root) {
        let environment = service["environment"].as_object();
        let has = |variable: &str| environment.is_some_and(|all| all.contains_key(variable));
        let audit = name == "audit";
        assert_eq!(has("SECURITY_AUDIT_SIGNING_KEY_PATH"), audit, "{name}");
        assert_eq!(
            has("SECURITY_AUDIT_HMAC_SECRET"),
            audit || name == "tools",
            "{name}"
        );
    }
}
