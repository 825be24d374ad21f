//! Every bundle that cannot be run is answered with one line that names the field or the file, and
//! leaves nothing.

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// Puts each value at its place in a good config.json and expects `create` to refuse it with these
/// words.
#[track_caller]
fn each_is_refused(cases: &[(&str, Value, &[&str])]) {
    let c = Container::native(Config::args(&["true"]));
    for (pointer, value, words) in cases {
        c.configure(Config::args(&["true"]).set(pointer, value.clone()));
        let output = c.create();
        let shown = value.to_string();
        println!("{pointer} = {}: {}", &shown[..shown.len().min(80)], output.stderr.trim());
        output.refused(1, words);
        assert!(!c.state_root().join(c.id()).exists(), "{pointer} = {shown}");
    }
    c.assert_gone();
}

#[test]
fn a_field_of_a_wrong_type_is_named_by_its_path_and_file() {
    gpurun_only!("the words are gpurun's");
    let file = "config.json";
    each_is_refused(&[
        ("/ociVersion", json!(1), &[file, "ociVersion", "expected a string"]),
        ("/process", json!("x"), &[file, "process:", "expected an object"]),
        ("/process/args", json!("true"), &[file, "process.args:", "expected an array"]),
        ("/process/args", json!(["a", 1]), &[file, "process.args[1]", "expected a string"]),
        ("/process/env", json!([1]), &["process.env[0]"]),
        ("/process/cwd", json!(5), &["process.cwd", "expected a string"]),
        ("/process/terminal", json!("yes"), &["process.terminal", "boolean"]),
        ("/process/user", json!("root"), &["process.user", "expected an object"]),
        ("/process/user/uid", json!(-1), &["process.user.uid", "-1", "0 to 4294967295"]),
        ("/process/user/uid", json!(4294967296_u64), &["process.user.uid", "4294967296"]),
        ("/process/user/uid", json!("0"), &["process.user.uid", "whole number"]),
        ("/process/user/gid", json!(1.5), &["process.user.gid", "1.5"]),
        ("/process/user/additionalGids", json!(["x"]), &["process.user.additionalGids[0]"]),
        ("/process/capabilities", json!(["CAP_KILL"]), &["process.capabilities"]),
        ("/process/rlimits/0/type", json!("RLIMIT_X"), &["process.rlimits[0].type", "RLIMIT_X"]),
        ("/process/rlimits/0/hard", json!(-1), &["process.rlimits[0].hard", "not negative"]),
        ("/process/oomScoreAdj", json!("x"), &["process.oomScoreAdj"]),
        (
            "/process/consoleSize",
            json!({"height": -1, "width": 1}),
            &["process.consoleSize.height"],
        ),
        ("/root", json!("rootfs"), &["root:", "expected an object"]),
        ("/root/path", json!(7), &["root.path"]),
        ("/root/readonly", json!("yes"), &["root.readonly"]),
        ("/hostname", json!(1), &["hostname"]),
        ("/mounts", json!("x"), &["mounts:", "expected an array"]),
        ("/mounts/0", json!({}), &["mounts[0]", "destination"]),
        ("/mounts/2/options", json!("ro"), &["mounts[2].options"]),
        ("/linux/namespaces/0/type", json!("x"), &["linux.namespaces[0].type", "`network`"]),
        ("/linux/cgroupsPath", json!(5), &["linux.cgroupsPath"]),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "z"}]), &["linux.devices[0].type"]),
        ("/linux/resources/devices/0/allow", json!("x"), &["linux.resources.devices[0].allow"]),
        ("/linux/resources/memory", json!({"limit": "1G"}), &["linux.resources.memory.limit"]),
        ("/linux/resources/memory", json!({"limit": 1e30}), &["linux.resources.memory.limit"]),
        ("/linux/resources/cpu", json!({"shares": -1}), &["linux.resources.cpu.shares"]),
        ("/linux/resources/pids", json!({"limit": "x"}), &["linux.resources.pids.limit"]),
        ("/linux/sysctl", json!({"net.core.somaxconn": 5}), &["linux.sysctl.net.core.somaxconn"]),
        ("/linux/maskedPaths", json!(5), &["linux.maskedPaths"]),
        ("/linux/seccomp", json!({}), &["linux.seccomp", "defaultAction"]),
        ("/linux/seccomp", json!({"defaultAction": "X"}), &["linux.seccomp.defaultAction", "X"]),
        ("/linux/uidMappings", json!("x"), &["linux.uidMappings"]),
        ("/hooks", json!({"prestart": "x"}), &["hooks.prestart"]),
        ("/hooks", json!({"prestart": [{}]}), &["hooks.prestart[0]", "path"]),
        ("/annotations", json!({"a": 1}), &["annotations.a"]),
    ]);
}

#[test]
fn a_value_that_makes_no_sense_is_named_with_its_field() {
    gpurun_only!("the words are gpurun's");
    let long = "x".repeat(5000);
    let many = "y/".repeat(3000);
    each_is_refused(&[
        ("/ociVersion", json!(""), &["config.json", "ociVersion"]),
        ("/ociVersion", json!("2.0.0"), &["ociVersion", "2.0.0"]),
        ("/process", Value::Null, &["process is missing"]),
        ("/process/args", json!([]), &["process.args must not be empty"]),
        ("/process/args", json!(["a\0b"]), &["process.args", "NUL"]),
        ("/process/args", json!([""]), &["executable file not found"]),
        ("/process/args", json!(["n".repeat(300)]), &["exec: \"nnn"]),
        ("/process/cwd", json!(""), &["process.cwd", "absolute"]),
        ("/process/cwd", json!("rel"), &["process.cwd", "absolute", "rel"]),
        ("/process/cwd", json!("/a\0b"), &["process.cwd", "NUL"]),
        ("/process/cwd", json!(format!("/{long}")), &["working directory", "too long"]),
        ("/process/env", json!(["A"]), &["environment variable", "NAME=VALUE"]),
        ("/process/env", json!(["=x"]), &["environment variable", "NAME=VALUE"]),
        ("/process/env", json!(["A=\0"]), &["process.env", "NUL"]),
        ("/process/user/uid", json!(u32::MAX), &["process.user.uid", "reserves"]),
        ("/process/user/gid", json!(u32::MAX), &["process.user.gid", "reserves"]),
        ("/process/user/additionalGids", json!([u32::MAX]), &["additionalGids", "reserves"]),
        ("/process/rlimits/0/soft", json!(2000), &["process.rlimits", "2000", "1024"]),
        ("/process/rlimits/0/hard", json!(1_u64 << 62), &["RLIMIT_NOFILE", "4611686018427387904"]),
        ("/process/oomScoreAdj", json!(5000), &["process.oomScoreAdj", "-1000..1000"]),
        ("/root", Value::Null, &["root.path is missing"]),
        ("/root/path", json!(""), &["root.path is missing"]),
        ("/root/path", json!("missing"), &["root.path", "missing", "no such file"]),
        ("/root/path", json!("a\0b"), &["root.path"]),
        ("/root/path", json!(long), &["root.path", "too long"]),
        ("/root/path", json!("/etc/passwd"), &["root.path", "/etc/passwd", "not a directory"]),
        ("/hostname", json!(long), &["hostname", "64"]),
        ("/hostname", json!("a\0b"), &["hostname", "NUL"]),
        ("/domainname", json!("d".repeat(65)), &["domainname", "64"]),
        ("/mounts/3/type", json!("nosuchfs"), &["/dev/shm", "no such device"]),
        ("/mounts/1/options", json!(["size=abc"]), &["/dev", "size"]),
        ("/mounts/1/options", json!(["nosuchoption"]), &["/dev", "nosuchoption"]),
        ("/mounts/1/options", json!(["o".repeat(1 << 20)]), &["/dev"]),
        ("/mounts/1/options", json!(["a\0b"]), &["/dev", "NUL"]),
        ("/mounts/1/destination", json!(""), &["destination is empty"]),
        ("/mounts/1/destination", json!("/a\0"), &["NUL"]),
        ("/mounts/1/destination", json!("/../x/.."), &["root"]),
        ("/mounts/1", bind("/nonexistent"), &["/nonexistent", "no such file"]),
        ("/linux/namespaces", json!([]), &["hostname", "UTS namespace"]),
        ("/linux/namespaces/0", json!({"type": "mount"}), &["mount", "twice"]),
        ("/linux/namespaces/1/path", json!("/nonexistent"), &["network", "/nonexistent"]),
        ("/linux/namespaces/1/path", json!("/etc/passwd"), &["network", "/etc/passwd"]),
        ("/linux/namespaces/1/path", json!("/proc/self/ns/ipc"), &["network", "/proc/self/ns/ipc"]),
        ("/linux/cgroupsPath", json!("/../x"), &["cgroupsPath", "`..`"]),
        ("/linux/cgroupsPath", json!("/"), &["cgroupsPath", "root"]),
        ("/linux/cgroupsPath", json!("/a\0"), &["cgroupsPath", "NUL"]),
        ("/linux/cgroupsPath", json!(format!("/{many}")), &["cgroupsPath", "bytes long"]),
        ("/linux/devices", device("rel", 1), &["linux.devices", "absolute"]),
        ("/linux/devices", device("/dev/x", -1), &["/dev/x", "out of range"]),
        ("/linux/devices", device("/dev/x", 1 << 40), &["/dev/x", "out of range"]),
        ("/linux/devices", device("/dev/a\0", 1), &["/dev/a", "invalid argument"]),
        ("/linux/resources/devices/0/access", json!("xyz"), &["device rule 0", "xyz"]),
        ("/linux/resources/memory", json!({"limit": -5}), &["memory.limit", "-5"]),
        ("/linux/resources/memory", json!({"swappiness": 500}), &["memory.swappiness", "500"]),
        ("/linux/resources/pids", json!({"limit": -7}), &["pids.limit", "-7"]),
        ("/linux/resources/cpu", json!({"cpus": "x-"}), &["cpuset.cpus", "x-"]),
        ("/linux/resources/blockIO", json!({"weight": 5}), &["blockIO.weight", "5"]),
        ("/linux/resources/hugepageLimits", huge("3XB"), &["hugepageLimits.pageSize", "3XB"]),
        ("/linux/resources/hugepageLimits", huge("../x"), &["hugepageLimits.pageSize", "../x"]),
        ("/linux/sysctl", json!({"net.nosuch": "1"}), &["sysctl", "net.nosuch"]),
        ("/linux/sysctl", json!({"net/../x": "1"}), &["sysctl", "net/../x"]),
        ("/linux/maskedPaths", json!(["rel"]), &["linux.maskedPaths", "rel"]),
        ("/linux/readonlyPaths", json!(["rel"]), &["linux.readonlyPaths", "rel"]),
        ("/linux/rootfsPropagation", json!("x"), &["rootfsPropagation"]),
        ("/linux/uidMappings", map(1), &["user namespace"]),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}), &["time namespace"]),
    ]);
}

fn bind(source: &str) -> Value {
    json!({"destination": "/x", "type": "bind", "source": source, "options": ["bind"]})
}

fn device(path: &str, major: i64) -> Value {
    json!([{"path": path, "type": "c", "major": major, "minor": 3}])
}

fn huge(size: &str) -> Value {
    json!([{"pageSize": size, "limit": 1}])
}

fn map(size: u32) -> Value {
    json!([{"containerID": 0, "hostID": 0, "size": size}])
}

#[test]
fn a_hook_that_cannot_be_run_or_fails_or_hangs_is_named() {
    gpurun_only!("the words are gpurun's");
    each_is_refused(&[
        ("/hooks/prestart", json!([{"path": "rel"}]), &["prestart", "rel", "absolute"]),
        ("/hooks/prestart", json!([{"path": "/nonexistent"}]), &["prestart", "/nonexistent"]),
        ("/hooks/createRuntime", json!([{"path": "/etc/passwd"}]), &["createRuntime", "denied"]),
        ("/hooks/createRuntime", json!([{"path": "/etc"}]), &["createRuntime", "/etc"]),
        ("/hooks/createRuntime", json!([{"path": "/bin/false"}]), &["/bin/false", "status: 1"]),
        (
            "/hooks/createContainer",
            json!([{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]),
            &["createContainer", "/bin/sleep", "timeout"],
        ),
    ]);
}

#[test]
fn a_config_that_is_not_readable_json_says_what_it_is() {
    gpurun_only!("the words are gpurun's");
    let c = Container::native(Config::args(&["true"]));
    let config = c.bundle().join("config.json");
    let good = fs::read(&config).unwrap();
    let nested = [b"{\"a\":".repeat(5000), b"1".to_vec(), b"}".repeat(5000)].concat();
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\0", "not a JSON object"),
        (&[b"\xef\xbb\xbf", &*good].concat(), "byte order mark"),
        (&good[..good.len() / 2], "EOF"),
        (&[&*good, b"x"].concat(), "trailing characters"),
        (&replaced(&good, b"\"box\"", b"\"b\xffx\""), "unicode"),
        (&nested, "config.json"),
    ];
    for (content, words) in cases {
        fs::write(&config, content).unwrap();
        c.create().refused(1, &["config.json", words]);
    }
    // Holes, no bytes on the disk.
    let file = fs::File::create(&config).unwrap();
    file.set_len(10 << 30).unwrap();
    c.create().refused(1, &["config.json", "larger than 16 MiB"]);
    c.assert_gone();
}

fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = text.windows(old.len()).position(|window| window == old).unwrap();
    [&text[..at], new, &text[at + old.len()..]].concat()
}

#[test]
fn a_config_or_rootfs_of_another_kind_of_file_is_named() {
    let c = Container::native(Config::args(&["true"]));
    let (config, rootfs) = (c.bundle().join("config.json"), c.rootfs());
    let kept = c.path("kept");
    fs::rename(&rootfs, &kept).unwrap();
    let fifo = |path: &std::path::Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let refused = |words: &[&str]| {
        c.create().refused(1, words);
        c.assert_gone();
        fs::remove_file(&rootfs).unwrap();
    };
    fs::write(&rootfs, "").unwrap();
    refused(&["rootfs"]);
    fifo(&rootfs);
    refused(&["rootfs"]);
    symlink("rootfs", &rootfs).unwrap();
    refused(&["rootfs"]);
    symlink("/nonexistent", &rootfs).unwrap();
    refused(&["rootfs"]);
    fs::rename(&kept, &rootfs).unwrap();
    fs::remove_file(&config).unwrap();
    c.create().refused(1, &["config.json", "no such file"]);
    fs::create_dir(&config).unwrap();
    c.create().refused(1, &["config.json"]);
    fs::remove_dir(&config).unwrap();
    symlink("config.json", &config).unwrap();
    c.create().refused(1, &["config.json"]);
    fs::remove_file(&config).unwrap();
    if Runtime::is_gpurun() {
        // runc waits for a writer.
        fifo(&config);
        c.create().refused(1, &["config.json", "regular file"]);
    }
    c.assert_gone();
}

#[test]
fn a_bundle_may_have_any_name_and_be_given_relative() {
    let c = Container::native(Config::args(&["true"]));
    for name in [&b"with blank"[..], b"with\nnewline", b"quote'\"", b"-dash", "ünï".as_bytes()] {
        let path = c.path("").join(std::ffi::OsStr::from_bytes(name));
        fs::rename(c.bundle(), &path).unwrap();
        for bundle in [path.clone(), std::path::Path::new(".").join(path.file_name().unwrap())] {
            let mut run = c.command(&["run", "--bundle"]);
            run.arg(&bundle).arg(c.id()).current_dir(c.path(""));
            integration_tests::runtime::finish(&mut run, b"").ok();
        }
        fs::rename(&path, c.bundle()).unwrap();
    }
    // Bytes that are no text have no place in state.json.
    let path = c.path("").join(std::ffi::OsStr::from_bytes(b"not\xfftext"));
    fs::rename(c.bundle(), &path).unwrap();
    let mut run = c.command(&["run", "--bundle"]);
    run.arg(&path).arg(c.id());
    let output = integration_tests::runtime::finish(&mut run, b"");
    assert!(output.code == 0 || output.stderr.contains("UTF-8"), "{output:?}");
    fs::rename(&path, c.bundle()).unwrap();
    c.assert_gone();
}

#[test]
fn what_is_large_but_allowed_works_or_is_refused_in_time() {
    gpurun_only!("runc's limits differ");
    let c = Container::native(Config::args(&["true"]));
    let begin = Instant::now();
    // More than the kernel passes to a program (E2BIG).
    let env: Vec<String> = (0..100_000).map(|n| format!("VARIABLE_{n}={:0100}", n)).collect();
    c.configure(Config::args(&["/bin/true"]).set("/process/env", json!(env)));
    let output = c.run();
    assert!(output.code != 0 && output.stderr.contains("rgument list too long"), "{output:?}");
    c.assert_gone();
    let few: Vec<String> = (0..10_000).map(|n| format!("VARIABLE_{n}=x")).collect();
    c.configure(Config::args(&["/bin/true"]).set("/process/env", json!(few)));
    c.run().ok();
    // Each a mount of its own, more than fs.mount-max leaves would be refused by the kernel.
    let mut config = Config::args(&["/bin/true"]);
    for _ in 0..2000 {
        config = config.mount("/mnt", "tmpfs", "tmpfs", &["size=4k"]);
    }
    c.configure(config);
    c.run().ok();
    assert!(begin.elapsed() < Duration::from_secs(60));
    c.assert_gone();
    let begin = Instant::now();
    let rule =
        |n| json!({"allow": true, "type": "c", "major": n % 4000, "minor": n, "access": "r"});
    let rules: Vec<Value> = (0..200_000).map(rule).collect();
    c.configure(Config::args(&["/bin/true"]).set("/linux/resources/devices", json!(rules)));
    c.run().refused(1, &["linux.resources.devices", "200000 rules", "whole majors"]);
    let paths: Vec<String> = (0..200_000).map(|n| format!("/none/{n}")).collect();
    c.configure(Config::args(&["/bin/true"]).set("/linux/maskedPaths", json!(paths)));
    c.run().ok();
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
    c.assert_gone();
}

#[test]
fn an_id_that_is_no_name_is_refused_with_the_reason() {
    gpurun_only!("the words are gpurun's");
    let c = Container::native(Config::args(&["true"]));
    let long = "x".repeat(5000);
    for (id, words) in [
        ("", "empty"),
        (".", "container id"),
        ("..", "container id"),
        ("../x", "letters, digits"),
        ("a/b", "letters, digits"),
        ("a b", "letters, digits"),
        ("a\nb", "letters, digits"),
        ("é", "letters, digits"),
        (long.as_str(), "5000 bytes"),
    ] {
        let output = c.call(&["create", "--bundle", text(&c.bundle()), id]);
        output.refused(1, &[words]);
    }
    assert!(!c.state_root().exists());
}
