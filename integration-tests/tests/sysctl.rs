//! linux.sysctl: namespaced kernel parameters, and nothing else.

use integration_tests::{Config, Container, json};
use std::fs;

#[test]
fn parameters_of_the_containers_namespaces_are_set() {
    let config = Config::sh(
        "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start net/core/somaxconn \
         kernel/shm_rmid_forced kernel/msgmax fs/mqueue/msg_max",
    )
    .set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_unprivileged_port_start": "80", "net.core.somaxconn": "777",
               "kernel.shm_rmid_forced": "1", "kernel.msgmax": "9999", "fs.mqueue.msg_max": "20"}),
    );
    assert_eq!(Container::native(config).run().ok(), "80\n777\n1\n9999\n20");
}

#[test]
fn slashes_separate_as_well_as_dots() {
    let config = Config::sh("cat /proc/sys/net/core/somaxconn")
        .set("/linux/sysctl", json!({"net/core/somaxconn": "555"}));
    assert_eq!(Container::native(config).run().ok(), "555");
}

#[test]
fn a_parameter_of_the_whole_host_is_refused() {
    let before = fs::read_to_string("/proc/sys/kernel/randomize_va_space").unwrap();
    for name in ["kernel.randomize_va_space", "vm.swappiness", "fs.file-max", "kernel.core_pattern"]
    {
        let c = Container::native(Config::idle().set("/linux/sysctl", json!({name: "1"})));
        c.create().refused(1, &[name]);
        c.assert_gone();
    }
    assert_eq!(before, fs::read_to_string("/proc/sys/kernel/randomize_va_space").unwrap());
}

#[test]
fn a_parameter_whose_namespace_is_the_hosts_is_refused() {
    for (name, kind) in [
        ("net.core.somaxconn", "network"),
        ("kernel.msgmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ] {
        let config = Config::idle().namespace(kind, None).remove("/hostname");
        let c = Container::native(config.set("/linux/sysctl", json!({name: "1"})));
        c.create().refused(1, &[name]);
        c.assert_gone();
    }
}

#[test]
fn a_parameter_that_does_not_exist_or_takes_no_such_value_is_refused() {
    for (name, value) in [("net.core.nope", "1"), ("net.core.somaxconn", "many"), ("net.core", "1")]
    {
        let c = Container::native(Config::idle().set("/linux/sysctl", json!({name: value})));
        c.create().refused(1, &["net"]);
        c.assert_gone();
    }
}

#[test]
fn a_name_does_not_lead_out_of_proc_sys() {
    for name in [
        "net.core./../../../../etc/passwd",
        "net/../kernel/core_pattern",
        "net..",
        "/etc/passwd",
        "",
    ] {
        let c = Container::native(Config::idle().set("/linux/sysctl", json!({name: "1"})));
        let passwd = fs::read(c.rootfs().join("etc/passwd")).unwrap();
        c.create().refused(1, &[]);
        assert_eq!(passwd, fs::read(c.rootfs().join("etc/passwd")).unwrap());
        c.assert_gone();
    }
}
