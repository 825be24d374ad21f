//! What the specification and runc accept and the types of oci-spec do not.
//!
//! The types name two scheduler flags otherwise than the specification, insist on members that
//! it calls optional, and know only the capabilities of their day, where runc warns. A document
//! is first read as it is; only one that the types refuse is looked through here.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::capabilities;
use super::json::{self, JsonError};
use crate::log;

/// Names of the specification and what the types have for them.
const SCHEDULER_FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Reads a config.json.
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn spec<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    read(bytes, |document| {
        // Whatever is in them, they are for other runtimes.
        for platform in ["freebsd", "solaris", "vm", "windows", "zos"] {
            document.remove(platform);
        }
        if let Some(process) = member(document, "process") {
            mend_process(process);
        }
    })
}

/// Reads a `process` object on its own.
///
/// # Errors
/// As [`spec`].
pub fn process<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    read(bytes, mend_process)
}

fn read<T: DeserializeOwned>(
    bytes: &[u8],
    mend: impl FnOnce(&mut Map<String, Value>),
) -> Result<T, JsonError> {
    let refused = match json::object(bytes) {
        Ok(read) => return Ok(read),
        Err(refused) => refused,
    };
    let Ok(Value::Object(mut document)) = serde_json::from_slice(bytes) else {
        return Err(refused);
    };
    mend(&mut document);
    // The first error has the line and the column.
    serde_json::from_value(Value::Object(document)).map_err(|_| refused)
}

fn member<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name)?.as_object_mut()
}

fn mend_process(process: &mut Map<String, Value>) {
    let unknown = capabilities::take_unknown(process);
    if !unknown.is_empty() {
        log::warn(capabilities::ignoring(&unknown));
    }
    process.entry("user").or_insert_with(|| json!({}));
    if let Some(Value::Array(flags)) =
        member(process, "scheduler").and_then(|scheduler| scheduler.get_mut("flags"))
    {
        for flag in flags {
            if let Some((_, name)) = SCHEDULER_FLAGS.iter().find(|(name, _)| *flag == *name) {
                *flag = Value::from(*name);
            }
        }
    }
    if let Some(affinity) = member(process, "execCPUAffinity") {
        for list in affinity.values_mut() {
            let Some(text) = list.as_str() else { continue };
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let text = parts.collect::<Vec<_>>().join(",");
            *list = if text.is_empty() { Value::Null } else { text.into() };
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Process, Spec};

    use super::*;

    #[test]
    fn a_process_without_a_user_is_roots() {
        let read: Process = process(br#"{"args": ["a"], "cwd": "/"}"#).expect("a process");
        assert_eq!((read.user().uid(), read.user().gid()), (0, 0));
    }

    #[test]
    fn scheduler_flags_have_the_names_of_the_specification() {
        let flags = [
            "RESET_ON_FORK",
            "RECLAIM",
            "DL_OVERRUN",
            "KEEP_POLICY",
            "KEEP_PARAMS",
            "UTIL_CLAMP_MIN",
            "UTIL_CLAMP_MAX",
        ];
        let flags: Vec<_> = flags.iter().map(|name| format!("SCHED_FLAG_{name}")).collect();
        let document = json!({"args": ["a"], "cwd": "/", "user": {},
                              "scheduler": {"policy": "SCHED_BATCH", "flags": flags}});
        let read: Process = process(document.to_string().as_bytes()).expect("a process");
        let read = read.scheduler().as_ref().and_then(|s| s.flags().as_ref()).map(Vec::len);
        assert_eq!(read, Some(7));
    }

    #[test]
    fn unknown_capabilities_and_empty_lists_are_left_out() {
        let document = json!({"args": ["a"], "cwd": "/",
            "execCPUAffinity": {"initial": "", "final": "0, 1"},
            "capabilities": {"bounding": ["CAP_KILL", "CAP_FROM_THE_FUTURE"], "ambient": null}});
        let read: Process = process(document.to_string().as_bytes()).expect("a process");
        let sets = read.capabilities().as_ref().expect("sets");
        assert_eq!(sets.bounding().as_ref().map(|set| set.len()), Some(1));
        let affinity = read.exec_cpu_affinity().as_ref().expect("an object");
        assert_eq!(affinity.initial(), &None);
        assert_eq!(affinity.cpu_affinity_final().as_deref(), Some("0,1"));
    }

    #[test]
    fn what_cannot_be_mended_is_reported_with_its_place() {
        let text = "{\"ociVersion\": \"1.0\", \n\"process\": {\"cwd\": 7}}";
        let err = spec::<Spec>(text.as_bytes()).expect_err("refused").to_string();
        assert!(err.contains("line 2"), "{err}");
    }
}
