//! The kernel's and the spec's lines of allocations.

use oci_spec::runtime::LinuxIntelRdt;
use serde_json::json;

use super::{allocations, check};
use crate::fuzzing::text;

/// Lines as in `schemata`.
pub fn schemata(data: &[u8]) {
    let text = text(data);
    let all = allocations(text.lines());
    let mut lines: Vec<String> = all
        .iter()
        .map(|((resource, cache), value)| format!("{resource}:{cache}=00{value}"))
        .collect();
    lines.reverse();
    if lines.iter().all(|line| line.matches([':', ';', '=']).count() == 2) {
        assert_eq!(allocations(lines.iter().map(String::as_str)), all);
    }
    let (id, line) = text.split_once('\n').unwrap_or((text, ""));
    let spec = json!({"closID": id, "memBwSchema": line, "schemata": [line]});
    let spec: LinuxIntelRdt = serde_json::from_value(spec).expect("an object");
    if check(&spec).is_ok() && id != "/" && !id.is_empty() {
        assert_eq!(std::path::Path::new(id).components().count(), 1, "{id:?} is a path");
        assert!(!line.contains('\n'));
    }
}
