//! Capabilities that a spec asks for and that cannot be given.
//!
//! "Any value which cannot be mapped to a relevant kernel interface, or cannot be granted
//! otherwise, MUST be logged as a warning by the runtime. Runtimes SHOULD NOT fail" (runtime-spec,
//! config.md, `process.capabilities`).

use std::collections::BTreeSet;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::thread::CapabilitySet;
use serde_json::{Map, Value};

const SETS: &[&str] = &["bounding", "effective", "inheritable", "permitted", "ambient"];

/// Takes the capabilities that gpurun has no number for out of a spec's `process`, and returns
/// their names. A spec has them when its author knows a newer kernel.
pub fn take_unknown(process: &mut Map<String, Value>) -> Vec<String> {
    let mut unknown = BTreeSet::new();
    let Some(sets) = process.get_mut("capabilities") else { return Vec::new() };
    for name in SETS {
        let Some(Value::Array(list)) = sets.get_mut(name) else { continue };
        list.retain(|item| {
            let known = serde_json::from_value::<Capability>(item.clone()).is_ok();
            if let (false, Some(name)) = (known, item.as_str()) {
                unknown.insert(name.to_owned());
            }
            // What is no string at all stays, for the parser to say where it is.
            known || !item.is_string()
        });
    }
    unknown.into_iter().collect()
}

/// What to warn of: those that `available` lacks, where that is known, and ambient ones that the
/// kernel refuses because they are not inheritable and permitted.
#[must_use]
pub fn warnings(sets: &LinuxCapabilities, available: Option<CapabilitySet>) -> Vec<String> {
    let mut warnings = Vec::new();
    let lists = [sets.bounding(), sets.effective(), sets.inheritable(), sets.permitted()];
    let wanted: BTreeSet<String> = lists
        .into_iter()
        .flatten()
        .flatten()
        .filter(|cap| lacks(available, cap))
        .map(name)
        .collect();
    if !wanted.is_empty() {
        warnings.push(ignoring(&wanted.into_iter().collect::<Vec<_>>()));
    }
    let has = |set: &Option<Capabilities>, cap| set.as_ref().is_some_and(|set| set.contains(cap));
    for cap in sets.ambient().iter().flatten() {
        if !(has(sets.permitted(), cap) && has(sets.inheritable(), cap)) {
            let name = name(cap);
            warnings.push(format!(
                "can't raise ambient capability {name}: it is not both permitted and inheritable"
            ));
        }
    }
    warnings
}

/// In runc's words.
#[must_use]
pub fn ignoring(names: &[String]) -> String {
    format!("ignoring unknown or unavailable capabilities: [{}]", names.join(" "))
}

fn lacks(available: Option<CapabilitySet>, cap: &Capability) -> bool {
    let Ok(cap) = name(cap).parse::<caps::Capability>() else { return true };
    available.is_some_and(|set| set.bits() & cap.bitmask() == 0)
}

/// As the spec writes it.
fn name(cap: &Capability) -> String {
    match serde_json::to_value(cap) {
        Ok(Value::String(name)) => name,
        _ => cap.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_taken_out_and_known_ones_stay() {
        let mut process = serde_json::json!({"capabilities": {
            "bounding": ["CAP_KILL", "CAP_FUTURE"], "ambient": ["NONSENSE", 7]}});
        let process = process.as_object_mut().expect("an object");
        assert_eq!(take_unknown(process), ["CAP_FUTURE", "NONSENSE"]);
        assert_eq!(process["capabilities"]["bounding"], serde_json::json!(["CAP_KILL"]));
        assert_eq!(process["capabilities"]["ambient"], serde_json::json!([7]));
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        let sets: LinuxCapabilities = serde_json::from_str(
            r#"{"permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"],
                "ambient": ["CAP_KILL", "CAP_CHOWN"]}"#,
        )
        .expect("sets");
        let only_kill = CapabilitySet::KILL;
        let said = warnings(&sets, Some(only_kill));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().any(|line| line.ends_with("capabilities: [CAP_CHOWN]")), "{said:?}");
        assert!(said.iter().any(|line| line.contains("ambient capability CAP_CHOWN:")), "{said:?}");
        assert_eq!(warnings(&sets, None).len(), 1);
    }
}
