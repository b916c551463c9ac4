//! What else a snapshot is made from: the configuration file, local keys, and the projection of claims.

use claimgate::{
    config::{self, Origin},
    reload::KeySource,
    token::{Algorithm, IssuerProfile, KeyOrigin, ProfileSettings, SigningKey},
};

use super::*;

fn key_set(kid: &str) -> String {
    SigningKey::generate_es256(kid).unwrap().public_jwks().unwrap()
}

/// A configuration file beside bundles `b` and `c`.
fn configuration(bundle: &str, more: &str) -> String {
    format!(
        "policy:\n  bundles: [{{ name: b, path: {bundle} }}]\n  entrypoint: t/answer\nissuers:\n  - issuer: https://idp.example\n    \
         audiences: [app]\n    algorithms: [ES256]\n    jwks: {{ file: keys.json }}\n{more}"
    )
}

const RELOAD: &str = "reload: { debounce: 40ms, settle: 50ms, poll_interval: 0s }\n";

async fn start(tree: &Tree) -> World {
    let path = tree.path("claimgate.yaml");
    let origin = Origin { file: Some(path.clone()), overrides: Vec::new() };
    let load = move || match config::load(&origin, &|_| None) {
        Ok(settings) => Ok(settings.reload),
        Err(problems) => Err(problems.into_iter().map(Problem::from).collect::<Vec<Problem>>()),
    };
    World::configured(load().unwrap(), Some(Reconfigure { path, read: Box::new(load) })).await
}

fn configured_tree() -> Tree {
    let tree = Tree::answering("1");
    tree.write("c/policy.rego", policy("2"));
    tree.write("keys.json", key_set("one"));
    tree.write("claimgate.yaml", configuration("b", RELOAD));
    tree
}

#[tokio::test]
async fn the_policy_section_is_reloaded_and_new_places_are_watched() {
    let tree = configured_tree();
    let mut world = start(&tree).await;
    assert_eq!(world.answer(), "1");
    tree.write("claimgate.new", configuration("c", RELOAD));
    tree.rename("claimgate.new", "claimgate.yaml");
    world.until_answer("the other bundle", "2").await;
    tree.write("c/policy.rego", policy("3"));
    world.until_answer("a change there", "3").await;
    assert_eq!(world.handle.health().restart_needed, Vec::<String>::new());
}

#[tokio::test]
async fn issuers_come_change_and_go_with_the_configuration() {
    let tree = configured_tree();
    let mut world = start(&tree).await;
    let issuers = |world: &World| {
        let snapshot = world.handle.current();
        let mut names: Vec<String> = snapshot.profiles.iter().map(|profile| profile.issuer().to_owned()).collect();
        names.retain(|name| snapshot.keys.get(name).is_some());
        names
    };
    assert_eq!(issuers(&world), ["https://idp.example"]);
    tree.write("more.json", key_set("two"));
    let second =
        "  - { issuer: 'https://two.example', audiences: [app], algorithms: [ES256], jwks: { file: more.json } }\n";
    tree.write("claimgate.yaml", configuration("b", &format!("{second}{RELOAD}")));
    assert!(tokio::time::timeout(PATIENCE, world.handle.changed()).await.unwrap());
    assert_eq!(issuers(&world), ["https://idp.example", "https://two.example"]);
    assert_eq!(world.handle.health().keys.len(), 2);

    let before = world.revision();
    tree.write("claimgate.yaml", configuration("b", &format!("    claims: {{ keep: [org] }}\n{RELOAD}")));
    assert!(tokio::time::timeout(PATIENCE, world.handle.changed()).await.unwrap());
    assert_eq!(issuers(&world), ["https://idp.example"]);
    assert_ne!(world.revision(), before);
    world.until_health("forgotten", |health| health.keys.len() == 1).await;
}

#[tokio::test]
async fn a_bad_configuration_is_told_with_its_place_and_files_are_still_followed() {
    let tree = configured_tree();
    let mut world = start(&tree).await;
    tree.write("claimgate.yaml", configuration("b", &format!("{RELOAD}polcy: {{}}\n")));
    let problems = world.until_problems("an unknown key").await;
    let location = problems[0].location.clone().unwrap();
    assert!(location.contains("claimgate.yaml:") && location.matches(':').count() == 2, "{problems:?}");
    tree.write("b/policy.rego", policy("5"));
    world.until_answer("policies live on", "5").await;
    assert!(!world.handle.health().errors.is_empty(), "the configuration is still bad");
    tree.write("claimgate.yaml", configuration("c", RELOAD));
    world.until_answer("mended", "2").await;
    world.until_health("mended", |health| health.errors.is_empty()).await;
}

#[tokio::test]
async fn a_configuration_that_does_not_load_changes_nothing_at_all() {
    let tree = configured_tree();
    tree.write("c/policy.rego", "package t\n\nanswer := {\n");
    let world = start(&tree).await;
    let before = world.revision();
    let more = format!("    claims: {{ keep: [org] }}\n{RELOAD}");
    tree.write("claimgate.yaml", configuration("c", &more));
    assert_eq!(world.until_problems("a bundle with an error").await[0].code, "rego_parse_error");
    assert_eq!(world.revision(), before, "neither the bundle nor the projection changed");
}

#[tokio::test]
async fn what_needs_a_restart_is_told_and_the_rest_takes_effect() {
    let tree = configured_tree();
    let mut world = start(&tree).await;
    tree.write("claimgate.yaml", configuration("c", &format!("{RELOAD}listen: '127.0.0.1:9999'\n")));
    world.until_answer("the rest", "2").await;
    world.until_health("told", |health| health.restart_needed == ["listen"]).await;
    tree.write("claimgate.yaml", configuration("b", RELOAD));
    world.until_answer("put back", "1").await;
    world.until_health("put back", |health| health.restart_needed.is_empty()).await;
}

#[tokio::test]
async fn key_files_rotate_and_a_bad_one_takes_no_keys_away() {
    let tree = configured_tree();
    let mut world = start(&tree).await;
    let digest = |world: &World| world.handle.current().keys.get("https://idp.example").unwrap().digest().to_owned();
    let first = digest(&world);
    tree.write("keys.new", key_set("two"));
    tree.rename("keys.new", "keys.json");
    assert!(tokio::time::timeout(PATIENCE, world.handle.changed()).await.unwrap());
    let second = digest(&world);
    assert_ne!(first, second);

    for (n, bad) in ["", "<html>", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA"}]}"#].into_iter().enumerate() {
        let before = digest(&world);
        tree.write("keys.json", bad);
        let problems = world.until_problems(bad).await;
        assert!(problems[0].location.as_deref().unwrap().ends_with("keys.json"), "{problems:?}");
        assert!(world.handle.health().keys["https://idp.example"].last_error.is_some());
        // Policies do not wait for keys.
        tree.write("b/policy.rego", policy(&format!("beside {n}")));
        world.until_answer(bad, &format!("beside {n}")).await;
        assert_eq!(digest(&world), before, "{bad}");
        tree.write("keys.json", key_set("three"));
        world.until_health(bad, |health| health.errors.is_empty()).await;
        world.until_health(bad, |health| health.keys["https://idp.example"].last_error.is_none()).await;
        assert_ne!(digest(&world), before, "{bad}");
    }
}

#[tokio::test]
async fn a_claim_that_policy_reads_and_nobody_keeps_is_refused_with_its_place() {
    let tree = Tree::new();
    tree.write("b/policy.rego", "package t\n\nanswer if {\n\tinput.token.claims.rolle == \"vp\"\n}\n");
    let settings = |keep: &[&str]| {
        let source = KeySource::Inline(key_set("one"));
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: "https://idp.example".to_owned(),
            audiences: vec!["app".to_owned()],
            algorithms: vec![Algorithm::ES256],
            keep: keep.iter().map(|name| (*name).to_owned()).collect(),
            key_origin: KeyOrigin::Local,
            ..ProfileSettings::default()
        });
        Settings { profiles: vec![(profile.unwrap(), source)], ..tree.settings(Watching::Events) }
    };
    let problems = reload::load_once(&settings(&["role"])).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].code, "claim_not_projected");
    assert!(problems[0].location.as_deref().unwrap().contains("b/policy.rego:4:"), "{problems:?}");
    assert!(problems[0].message.contains("claims.rolle`") && problems[0].message.contains("https://idp.example"));
    assert!(problems[0].message.contains("did you mean `role`"), "{problems:?}");

    let world = World::start(settings(&["rolle"])).await;
    let before = world.revision();
    tree.write("b/policy.rego", "package t\n\nanswer if input.token.claims.other\n");
    let problems = world.until_problems("on reload").await;
    assert_eq!(problems[0].code, "claim_not_projected");
    assert_eq!(world.revision(), before);
}

#[test]
fn sources_are_given_as_they_stand_for_whoever_compiles_them() {
    let tree = Tree::new();
    tree.write("b/policy.rego", "package t\n\nanswer := {\n");
    tree.write("d/x/data.json", "{");
    let mut settings = tree.settings(Watching::Events);
    settings.data = vec![format!("m:{}", tree.path("d").display()).parse().unwrap()];
    let sources = reload::read_sources(&settings).unwrap();
    let shown: Vec<(&str, Vec<&str>)> = sources
        .iter()
        .map(|source| (source.name.as_str(), source.files.iter().map(|file| file.path.as_str()).collect()))
        .collect();
    let d = tree.path("d").display().to_string();
    assert_eq!(shown, [("b", vec!["policy.rego"]), (d.as_str(), vec!["x/data.json"])]);
    tree.remove("d");
    assert_eq!(reload::read_sources(&settings).unwrap_err()[0].code, "file_unreadable");
}
