//! Against a made-up resctrl filesystem.

use super::stats::Stats;
use super::*;

/// A made-up resctrl filesystem: what the kernel would have in it.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("gpurun-rdt-{name}-{}", std::process::id()));
        for directory in ["info/L3", "info/MB", "mon_groups"] {
            fs::create_dir_all(root.join(directory)).expect("directory");
        }
        Self(root)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    fn group(&self, name: &str, schemata: &str) {
        fs::create_dir_all(self.0.join(name).join("mon_groups")).expect("group");
        fs::write(self.0.join(name).join("schemata"), schemata).expect("schemata");
    }

    fn decide(&self, spec: &LinuxIntelRdt) -> Result<Resctrl, ResctrlError> {
        check(spec)?;
        Resctrl::below(self.0.clone(), "box", spec)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn spec(json: serde_json::Value) -> LinuxIntelRdt {
    serde_json::from_value(json).expect("intelRdt")
}

#[test]
fn a_group_of_the_containers_own_gets_its_schemata_in_order_and_goes_with_it() {
    let tree = Tree::new("own");
    let spec = spec(serde_json::json!({"memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f",
                                       "schemata": ["L2:0=3", "MB:0=30"]}));
    let group = tree.decide(&spec).expect("decided");
    group.create(&spec).expect("created");
    assert_eq!(tree.read("box/schemata"), "L3:0=f\nMB:0=20\nL2:0=3\nMB:0=30\n");
    group.join(42).expect("joined");
    assert_eq!(tree.read("box/tasks"), "42\n");
    group.update(None, Some("MB:0=50")).expect("updated");
    assert_eq!(tree.read("box/schemata"), "MB:0=50\n");
    // The kernel's files do not keep a directory from being removed.
    for file in ["schemata", "tasks"] {
        fs::remove_file(tree.0.join("box").join(file)).expect("file");
    }
    group.remove().expect("removed");
    assert!(!tree.0.join("box").exists());
    group.remove().expect("nothing left to do");
}

/// An administrator's, or that of a container that has the same id in another state root.
#[test]
fn a_group_that_only_has_the_containers_name_is_neither_changed_nor_removed() {
    let tree = Tree::new("foreign");
    let wanted = spec(serde_json::json!({"l3CacheSchema": "L3:0=f"}));
    tree.group("box", "L3:0=ff\n");
    let group = tree.decide(&wanted).expect("decided");
    assert!(matches!(group.refuse_foreign(), Err(ResctrlError::Exists(_))));
    assert!(matches!(group.create(&wanted), Err(ResctrlError::Exists(_))), "also a moment later");
    assert_eq!(tree.read("box/schemata"), "L3:0=ff\n");

    let wanted = spec(serde_json::json!({"closID": "gold", "enableMonitoring": true}));
    tree.group("gold", "");
    let group = tree.decide(&wanted).expect("decided");
    group.refuse_foreign().expect("the group is meant, and of the other there is none");
    fs::create_dir(tree.0.join("gold/mon_groups/box")).expect("directory");
    assert!(matches!(group.refuse_foreign(), Err(ResctrlError::Exists(_))));
    assert!(matches!(group.create(&wanted), Err(ResctrlError::Exists(_))));
}

#[test]
fn a_named_group_is_used_as_it_is_and_stays() {
    let tree = Tree::new("named");
    let wanted = spec(serde_json::json!({"closID": "gold", "enableMonitoring": true}));
    assert!(matches!(tree.decide(&wanted), Err(ResctrlError::NoGroup(name)) if name == "gold"));
    tree.group("gold", "L3:0=0f;1=ff\nMB:0=100\n");
    let group = tree.decide(&wanted).expect("decided");
    group.create(&wanted).expect("created");
    group.join(7).expect("joined");
    assert_eq!(tree.read("gold/tasks"), "7\n");
    assert_eq!(tree.read("gold/mon_groups/box/tasks"), "7\n");
    fs::remove_file(tree.0.join("gold/mon_groups/box/tasks")).expect("file");
    group.remove().expect("removed");
    assert!(tree.0.join("gold").exists() && !tree.0.join("gold/mon_groups/box").exists());

    for (schema, fits) in [("L3:1=FF", true), ("L3:0=f;1=00ff", true), ("L3:0=7", false)] {
        let wanted = spec(serde_json::json!({"closID": "gold", "l3CacheSchema": schema}));
        tree.group("gold", "L3:0=0f;1=ff\nMB:0=100\n");
        let done = tree.decide(&wanted).expect("decided").create(&wanted);
        assert_eq!(done.is_ok(), fits, "{schema}: {done:?}");
    }
}

#[test]
fn the_root_is_the_default_group() {
    let tree = Tree::new("root");
    let wanted = spec(serde_json::json!({"closID": "/"}));
    let group = tree.decide(&wanted).expect("decided");
    group.create(&wanted).expect("created");
    group.join(9).expect("joined");
    assert_eq!(tree.read("tasks"), "9\n");
    group.remove().expect("removed");
    assert!(tree.0.exists());
}

#[test]
fn values_and_resources_that_cannot_be_had_are_refused() {
    let tree = Tree::new("bad");
    fs::remove_dir(tree.0.join("info/MB")).expect("directory");
    for (json, word) in [
        (serde_json::json!({"closID": ".."}), "closID"),
        (serde_json::json!({"closID": "a/b"}), "closID"),
        (serde_json::json!({"memBwSchema": "L3:0=1"}), "MB:"),
        (serde_json::json!({"schemata": ["L3:0=1\nMB:0=1"]}), "one line"),
        (serde_json::json!({"memBwSchema": "MB:0=10"}), "Intel RDT/MBA"),
    ] {
        let text = tree.decide(&spec(json)).expect_err("refused").to_string();
        assert!(text.contains(word), "{text}");
    }
    fs::write(tree.0.join("info/last_cmd_status"), "too many groups\n").expect("status");
    tree.group("gold", "");
    fs::remove_dir(tree.0.join("gold/mon_groups")).expect("directory");
    let wanted = spec(serde_json::json!({"closID": "gold", "enableMonitoring": true}));
    let text = tree.decide(&wanted).expect("decided").create(&wanted).expect_err("refused");
    assert!(text.to_string().contains("too many groups"), "{text}");
}

#[test]
fn statistics_are_what_the_machine_allocates_and_monitors() {
    let tree = Tree::new("stats");
    let put = |file: &str, text: &str| {
        let path = tree.0.join(file);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, text).expect("file");
    };
    let wanted = spec(serde_json::json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20",
                                         "closID": "gold", "enableMonitoring": true}));
    tree.group("gold", "L3:0=f\nMB:0=20\n");
    let group = tree.decide(&wanted).expect("decided");
    group.create(&wanted).expect("created");
    put("schemata", "    MB:0=100\n    L3:0=fffff\n");
    let json = || serde_json::to_value(group.stats().expect("statistics")).expect("json");
    let unknown = json();
    assert_eq!(unknown["schemata"], serde_json::json!(["L3:0=f", "MB:0=20"]));
    assert_eq!(unknown.get("mbm_stats"), None, "the machine does not monitor");

    put("info/L3/cbm_mask", "fffff\n");
    put("info/L3/min_cbm_bits", "1\n");
    put("info/L3/num_closids", "16\n");
    put("info/MB/bandwidth_gran", "10\n");
    put("info/MB/delay_linear", "1\n");
    put("info/MB/min_bandwidth", "10\n");
    put("info/MB/num_closids", "8\n");
    put("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n");
    for (node, bytes) in [("mon_L3_00", "7"), ("mon_L3_01", "Unavailable")] {
        put(&format!("gold/mon_groups/box/mon_data/{node}/llc_occupancy"), bytes);
        put(&format!("gold/mon_groups/box/mon_data/{node}/mbm_total_bytes"), bytes);
        put(&format!("gold/mon_groups/box/mon_data/{node}/mbm_local_bytes"), bytes);
    }
    let expected = serde_json::json!({
        "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fffff",
        "l3_cache_schema": "L3:0=f",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10,
                        "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100",
        "mem_bw_schema": "MB:0=20",
        "schemata": ["L3:0=f", "MB:0=20"],
        "mbm_stats": [{"mbm_total_bytes": 7, "mbm_local_bytes": 7},
                      {"mbm_total_bytes": 0, "mbm_local_bytes": 0}],
        "cmt_stats": [{"llc_occupancy": 7}, {"llc_occupancy": 0}],
    });
    assert_eq!(json(), expected);
    // A container without linux.intelRdt.
    assert_eq!(serde_json::to_value(Stats::default()).expect("json"), serde_json::json!({}));
}
