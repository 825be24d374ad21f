//! hack/kubernetes: the manifests against Kubernetes' schemas, and against one another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::skipped;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/kubernetes")
}

fn read(name: &str) -> String {
    fs::read_to_string(directory().join(name)).expect("manifest")
}

#[test]
fn the_manifests_are_valid() {
    let python = std::env::var_os("PYTHON").unwrap_or("python3".into());
    let Ok(output) = Command::new(&python).arg(directory().join("validate")).output() else {
        return skipped("no python3");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(77) => skipped(text.trim().trim_start_matches("skipped: ")),
        code => assert_eq!(code, Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn every_runtime_class_has_a_handler_that_the_installer_makes() {
    let installer = read("daemonset.yaml");
    let (_, names) = installer.split_once("- name: RUNTIME_NAME\n").expect("RUNTIME_NAME");
    let names = names.lines().next().and_then(|line| line.trim().strip_prefix("value: "));
    let names: Vec<&str> = names.expect("a value").split(',').collect();
    let classes = read("runtimeclass.yaml");
    let handlers: Vec<&str> =
        classes.lines().filter_map(|line| line.strip_prefix("handler: ")).collect();
    assert_eq!(handlers, names);
    let pod = read("example-pod.yaml");
    let class = pod.lines().find_map(|line| line.trim().strip_prefix("runtimeClassName: "));
    assert!(class.is_some_and(|class| handlers.contains(&class)), "{class:?}");
}

#[test]
fn the_image_is_of_this_version_and_in_no_registry_that_exists() {
    // Without a registry it would be anyone's of that name, and the pod is privileged.
    let image = format!("image: registry.example.com/gpurun:{}\n", env!("CARGO_PKG_VERSION"));
    assert!(read("daemonset.yaml").contains(&image), "not {image}");
}
