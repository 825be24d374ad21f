//! CDI files and names.

use oci_spec::runtime::Spec;

use super::compare::compare;
use super::name::QualifiedName;
use super::registry::Registry;
use super::spec::CdiSpec;
use super::{annotations, edits};
use crate::fuzzing::{Target, text};
use crate::gpu::absorb;
use crate::gpu::plan::Plan;
use crate::host::Host;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "cdi_file", run: cdi_file },
    Target { name: "cdi_names", run: cdi_names },
    Target { name: "cdi_compare", run: cdi_compare },
];

fn cdi_file(data: &[u8]) {
    let spec = match CdiSpec::parse(text(data)) {
        Ok(spec) => spec,
        Err(error) => return assert!(!error.contains('\n'), "an error of two lines: {error}"),
    };
    let json = serde_json::to_string(&spec).expect("JSON");
    assert_eq!(CdiSpec::parse(&json).as_ref(), Ok(&spec), "not the same as JSON: {json}");
    if let Err(error) = spec.validate() {
        return assert!(!error.contains('\n'), "an error of two lines: {error}");
    }
    let names: Vec<QualifiedName> = spec
        .devices
        .iter()
        .map(|device| QualifiedName::parse(&format!("{}={}", spec.kind, device.name)))
        .collect::<Result<_, _>>()
        .expect("the devices of a valid file can be named");
    let mut registry = Registry::default();
    registry.add("/f.json".into(), 0, spec.clone());
    assert!(registry.problems().is_empty());
    assert!(registry.names().all(|name| names.contains(name)));
    let resolved = registry.resolve(&names).expect("every device is there");
    assert_eq!(resolved.len(), names.len() + 1);
    apply(&resolved);
    // A second file of the same priority with the same devices: none of them can be asked for.
    registry.add("/g.json".into(), 0, spec);
    assert_eq!(registry.names().count(), 0);
    assert!(registry.resolve(&names).is_err());
}

fn apply(resolved: &[super::registry::Resolved<'_>]) {
    // A directory without devices: what is not in the file is nowhere.
    let nowhere = "/proc/self/fdinfo";
    let host = Host::at(nowhere, nowhere, nowhere).expect("a directory");
    let mut plan = Plan::default();
    for one in resolved {
        if edits::add(one, edits::Owner { uid: 1, gid: 1 }, &host, &mut plan).is_err() {
            return;
        }
    }
    let hooks = plan.hooks.len();
    let absorbed = absorb::from_plan(&mut plan);
    assert_eq!(absorbed.len() + plan.hooks.len(), hooks);
    let mut spec = Spec::default();
    plan.merge_into(&mut spec);
    let once = spec.clone();
    plan.merge_into(&mut spec);
    assert_eq!(spec, once, "merging twice is not merging once");
    serde_json::to_string(&plan).expect("a plan can be printed");
}

/// Annotations, one a line.
fn cdi_names(data: &[u8]) {
    let lines = text(data).lines();
    let all: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once('=')).collect();
    let read = |list: &[(&str, &str)]| annotations::names(list.iter().copied());
    for (key, value) in &all {
        for text in [*key, *value] {
            let Ok(name) = QualifiedName::parse(text) else { continue };
            assert_eq!(name.to_string(), text);
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
        }
    }
    let found = read(&all);
    let reversed: Vec<_> = all.iter().rev().copied().collect();
    if let Ok(found) = &found {
        assert_eq!(read(&reversed).as_ref(), Ok(found), "the order of annotations matters");
        for (at, name) in found.iter().enumerate() {
            assert!(!found[..at].contains(name), "{name} twice");
        }
    }
}

/// Two files with a zero byte between them.
fn cdi_compare(data: &[u8]) {
    let text = text(data);
    let (one, other) = text.split_once('\0').unwrap_or((text, text));
    let [Ok(one), Ok(other)] = [one, other].map(CdiSpec::parse) else { return };
    assert_eq!(compare(&one, &one), []);
    let found = compare(&one, &other);
    assert!(found.is_sorted_by(|one, next| one < next));
    let mut mirrored = compare(&other, &one);
    mirrored.iter_mut().for_each(|one| one.is_in_first = !one.is_in_first);
    mirrored.sort();
    assert_eq!(mirrored, found, "it matters which is the first");
    // As JSON it says the same.
    let json = CdiSpec::parse(&serde_json::to_string(&one).expect("JSON")).expect("JSON");
    assert_eq!(compare(&one, &json), []);
}
