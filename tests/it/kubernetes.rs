//! The Kubernetes example, read as the API server reads it: a native sidecar with probes, without privileges, and with
//! a configuration that loads. What the probes run and ask is tried on the real program.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use claimgate::config::{self, Origin};
use serde_json::{Value, json};

use crate::support::{program::Program, setup::Setup};

/// All documents of all files, by kind.
fn documents() -> BTreeMap<String, Value> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes");
    let mut documents = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n") {
            let document: Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert!(document["apiVersion"].is_string() && document["metadata"]["name"].is_string(), "{path:?}");
            let kind = document["kind"].as_str().unwrap().to_owned();
            assert!(documents.insert(kind, document).is_none(), "{path:?}: two documents of one kind");
        }
    }
    documents
}

fn configuration(documents: &BTreeMap<String, Value>) -> &str {
    documents["ConfigMap"]["data"]["claimgate.yaml"].as_str().unwrap()
}

#[test]
fn the_sidecar_is_native_probed_and_without_privileges() {
    let documents = documents();
    let pod = &documents["Deployment"]["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always", "this makes an init container a sidecar");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert!(sidecar[probe].is_object(), "{probe}");
    }
    // A pod whose policy is gone must not be restarted for it, so the liveness probe asks something else.
    assert_eq!(sidecar["readinessProbe"]["httpGet"]["path"], "/ready");
    assert_eq!(sidecar["livenessProbe"]["httpGet"]["path"], "/health");
    let admin = sidecar["ports"].as_array().unwrap().iter().find(|port| port["name"] == "admin").unwrap();
    for probe in ["readinessProbe", "livenessProbe"] {
        assert_eq!(sidecar[probe]["httpGet"]["port"], admin["name"]);
    }

    for container in pod["initContainers"].as_array().unwrap().iter().chain(pod["containers"].as_array().unwrap()) {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{container}");
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_ne!(pod["securityContext"]["runAsUser"], 0);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert!(sidecar["resources"]["limits"]["memory"].is_string());

    let mounts = sidecar["volumeMounts"].as_array().unwrap();
    let volumes: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    for mount in mounts {
        assert_eq!(mount["readOnly"], true, "{mount}");
        assert!(volumes.contains(&&mount["name"]), "{mount}");
        assert!(mount["subPath"].is_null(), "updates never reach a subPath: {mount}");
    }
    let config = sidecar["args"].as_array().unwrap().last().unwrap().as_str().unwrap();
    assert!(mounts.iter().any(|mount| config.starts_with(mount["mountPath"].as_str().unwrap())), "{config}");
    let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "config").unwrap();
    assert_eq!(volume["configMap"]["name"], documents["ConfigMap"]["metadata"]["name"]);
}

#[test]
fn its_configuration_loads_and_ends_in_time() {
    let documents = documents();
    // The volume is there only in the pod, and a missing path is refused.
    let here = tempfile::tempdir().unwrap();
    let here = here.path().to_str().unwrap();
    let directory = Setup::new(&configuration(&documents).replace("[/policy]", &format!("[{here}]"))).into_directory();
    let origin = Origin { file: Some(directory.path().join("claimgate.yaml")), overrides: Vec::new() };
    let settings = config::load(&origin, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let pod = &documents["Deployment"]["spec"]["template"]["spec"];
    let drain = settings.serve.shutdown_wait + settings.serve.shutdown_grace;
    let patience = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(drain.as_secs() < patience, "the kubelet would kill a drain of {drain:?}");
    assert!(!settings.serve.shutdown_wait.is_zero(), "time for the endpoints to learn of it");
    assert!(
        settings.serve.listen.iter().all(|listen| format!("{listen:?}").contains("127.0.0.1")),
        "only the application may ask"
    );
    let admin = format!("{:?}", settings.serve.admin);
    let port = pod["initContainers"][0]["ports"][0]["containerPort"].as_u64().unwrap();
    assert!(admin.contains(&format!("0.0.0.0:{port}")), "the kubelet asks at the pod's address: {admin}");
    assert_eq!(settings.reload.bundles[0].path.to_str(), Some(here));
    let mounts = pod["initContainers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/policy"), "{mounts:?}");
}

#[test]
fn its_probes_pass_on_the_real_program() {
    let documents = documents();
    let directory = Setup::passthrough().file("bundle/p.rego", "package p\nallow := true\n").into_directory();
    let program = Program::run(directory.path());
    let sidecar = &documents["Deployment"]["spec"]["template"]["spec"]["initContainers"][0];
    for probe in ["readinessProbe", "livenessProbe"] {
        let path = sidecar[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(program.admin(path).status, 200, "{probe}");
    }
    let command: Vec<String> = serde_json::from_value(sidecar["startupProbe"]["exec"]["command"].clone()).unwrap();
    assert_eq!(command[0], "claimgate");
    let arguments = command[1..].iter().map(|argument| argument.replace("127.0.0.1:8282", &program.admin));
    let probe = Command::new(env!("CARGO_BIN_EXE_claimgate")).args(arguments).output().unwrap();
    assert!(probe.status.success(), "{}", String::from_utf8_lossy(&probe.stderr));
}
