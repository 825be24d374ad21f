//! linux.personality and linux.memoryPolicy (runtime-spec config-linux.md, "Personality",
//! "Memory policy").

use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, skipped};

fn machine(personality: Value) -> Container {
    Container::running(Runtime::native(), Config::idle().set("/linux/personality", personality))
}

#[test]
fn a_32_bit_personality_is_that_of_the_init_and_of_exec() {
    if !cfg!(target_arch = "x86_64") {
        return skipped("the name of the machine is that of x86");
    }
    let c = machine(json!({"domain": "LINUX32"}));
    assert_eq!(c.sh("uname -m"), "i686");
    let personality = std::fs::read_to_string(format!("/proc/{}/personality", c.pid())).unwrap();
    assert_eq!(personality.trim(), "00000008");
    assert_eq!(machine(json!({"domain": "LINUX"})).sh("uname -m"), "x86_64");
}

#[test]
fn flags_of_a_personality_are_ignored_and_an_unknown_domain_is_not() {
    let c = machine(json!({"domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"]}));
    let personality = std::fs::read_to_string(format!("/proc/{}/personality", c.pid())).unwrap();
    assert_eq!(personality.trim(), "00000008");
    let c = Container::native(Config::idle().set("/linux/personality", json!({"domain": "SVR4"})));
    c.create().refused(1, &["SVR4"]);
    c.assert_gone();
}

/// The policy of the init's stack, which is its default one.
fn policy(memory_policy: Value) -> String {
    let config = Config::idle().set("/linux/memoryPolicy", memory_policy);
    let c = Container::running(Runtime::native(), config);
    let maps = std::fs::read_to_string(format!("/proc/{}/numa_maps", c.pid())).unwrap();
    let line = maps.lines().find(|line| line.contains("stack")).expect("a stack");
    line.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_memory_policy_is_set() {
    gpurun_only!("runc 1.1 does not know memoryPolicy");
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return skipped("a kernel without NUMA");
    }
    for (mode, nodes, flags, shown) in [
        ("MPOL_DEFAULT", "", json!([]), "default"),
        ("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
        ("MPOL_INTERLEAVE", "0", json!([]), "interleave:0"),
        ("MPOL_PREFERRED", "0", json!([]), "prefer:0"),
        ("MPOL_LOCAL", "", json!([]), "local"),
    ] {
        let mut wanted = json!({"mode": mode, "flags": flags});
        if !nodes.is_empty() {
            wanted["nodes"] = nodes.into();
        }
        assert_eq!(policy(wanted), shown, "{mode}");
    }
}

#[test]
fn a_memory_policy_that_cannot_be_is_refused() {
    gpurun_only!("runc 1.1 does not know memoryPolicy");
    for (wanted, phrase) in [
        (json!({"mode": "MPOL_NOPE"}), "MPOL_NOPE"),
        (json!({"mode": "MPOL_BIND"}), "emory"),
        (json!({"mode": "MPOL_BIND", "nodes": "0-4294967295"}), "memoryPolicy"),
        (json!({"mode": "MPOL_BIND", "nodes": "x"}), "memoryPolicy"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}), "MPOL_F_X"),
    ] {
        let c = Container::native(Config::idle().set("/linux/memoryPolicy", wanted));
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
}
