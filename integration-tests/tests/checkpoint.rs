//! `checkpoint` and `restore`: what a container was doing goes on, and what it had from outside
//! is there again. Needs a criu that works on this kernel.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::checkpoint::{COUNTER, Checkpointed};
use integration_tests::console::ConsoleSocket;
use integration_tests::container::text;
use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Config, Runtime, gpurun_only, json, needs_criu, skipped, wait_for};

#[test]
fn a_program_goes_on_where_it_was_dumped() {
    needs_criu!();
    gpurun_only!("under runc masked files lose nosuid");
    for runtime in Runtime::each() {
        let it = Checkpointed::running(runtime, Config::sh(COUNTER));
        it.counts_beyond(3);
        let mounts = it.mounts();
        it.checkpoint(&[]).silent();
        it.container.call_on("state", &[]).refused(1, &["does not exist"]);
        let at = it.count();
        let pid_file = it.container.path("pid");
        it.restore(&["--pid-file", text(&pid_file)]);
        it.counts_beyond(at + 3);
        assert_eq!(it.file("tmp/begun"), "begun\n", "it did not begin again");
        assert_eq!(it.container.status(), "running");
        let pid = fs::read_to_string(pid_file).expect("pid file");
        assert_eq!(pid, it.container.pid().to_string());
        assert_eq!(it.mounts(), mounts);
        assert_eq!(it.container.sh("hostname; cat /proc/keys"), "box");
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        assert!(cgroup.contains(it.container.id()), "{cgroup}");
        it.container.stop();
        it.container.delete(&[]).silent();
        it.container.assert_gone();
    }
}

#[test]
fn a_restored_container_can_be_dumped_again() {
    needs_criu!();
    let it = Checkpointed::running(Runtime::native(), Config::sh(COUNTER));
    for _ in 0..2 {
        it.counts_beyond(it.count());
        it.checkpoint(&[]).silent();
        it.restore(&[]);
    }
    it.counts_beyond(it.count());
    assert_eq!(it.file("tmp/begun"), "begun\n", "it did not begin again");
}

#[test]
fn with_leave_running_the_container_does_not_notice() {
    needs_criu!();
    let it = Checkpointed::running(Runtime::native(), Config::sh(COUNTER));
    it.counts_beyond(1);
    let pid = it.container.pid();
    it.checkpoint(&["--leave-running"]).silent();
    it.counts_beyond(it.count());
    assert_eq!((it.container.pid(), it.container.status()), (pid, "running".to_owned()));
    // Its id is taken, and the one who has it is left alone.
    it.restore_fails(&it.container.path("images"), &["already exists"]);
    it.counts_beyond(it.count());
    it.container.kill("KILL").silent();
    it.container.wait_until("stopped");
    it.container.delete(&[]).silent();
    it.restore(&[]);
    it.counts_beyond(it.count());
}

#[test]
fn a_paused_container_can_be_dumped() {
    needs_criu!();
    let it = Checkpointed::running(Runtime::native(), Config::sh(COUNTER));
    it.counts_beyond(1);
    it.container.call_on("pause", &[]).silent();
    it.checkpoint(&[]).silent();
    it.restore(&[]);
    it.counts_beyond(it.count());
    assert_eq!(it.container.status(), "running");
}

#[test]
fn memory_that_was_dumped_before_is_not_dumped_again() {
    needs_criu!();
    let it = Checkpointed::running(Runtime::native(), Config::sh(COUNTER));
    it.counts_beyond(1);
    let before = it.container.path("before");
    let args = ["checkpoint", "--pre-dump", "--image-path", text(&before), it.container.id()];
    let first = it.container.call(&args);
    if first.stderr.contains("MemTrack") {
        first.refused(1, &["criu is missing features: [MemTrack]"]);
        skipped("this kernel does not track memory");
        return;
    }
    first.silent();
    it.counts_beyond(it.count());
    it.checkpoint(&["--parent-path", "../before"]).silent();
    assert!(it.container.path("images/parent").exists(), "the images point to the earlier ones");
    it.restore(&[]);
    it.counts_beyond(it.count());
}

#[test]
fn a_terminal_comes_back_over_the_console_socket() {
    needs_criu!();
    let script = "stty size; while read line; do echo got $line; done";
    let it = Checkpointed::new(
        Runtime::native(),
        Config::sh(script)
            .set("/process/terminal", true.into())
            .set("/process/consoleSize", json!({"height": 33, "width": 77})),
    );
    let path = it.container.path("console");
    let socket = ConsoleSocket::listen(&path);
    it.container.create_with(&["--console-socket", text(&path)]).silent();
    let mut terminal = socket.receive();
    it.container.start().silent();
    terminal.read_until("33 77");
    terminal.write("one\n");
    terminal.read_until("got one");
    it.checkpoint(&[]).silent();
    drop(terminal);
    it.restore(&["--console-socket", text(&path)]);
    let mut terminal = socket.receive();
    terminal.write("two\n");
    terminal.read_until("got two");
    assert_eq!(terminal.size(), (33, 77));
    assert_eq!(it.container.sh("readlink /proc/1/fd/0"), "/dev/pts/0");
}

#[test]
fn an_attached_restore_ends_with_the_programs_exit_status() {
    needs_criu!();
    let script = "while ! [ -e /tmp/stop ]; do sleep 0.05; done; echo bye; exit 7";
    let it = Checkpointed::new(Runtime::native(), Config::sh(script));
    // A pipe that leads out of the container is replaced by the caller's.
    let bundle = it.container.bundle();
    let args = ["run", "--detach", "--bundle", text(&bundle), it.container.id()];
    let mut first = it
        .command(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run");
    assert!(first.wait().expect("wait").success());
    it.checkpoint(&[]).silent();
    let images = it.container.path("images");
    let args = ["restore", "--bundle", text(&bundle), "--image-path", text(&images)];
    let mut child = it
        .command(&[&args[..], &[it.container.id()]].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("restore");
    wait_for("it to run", || {
        it.container.call_on("state", &[]).stdout.contains("\"running\"")
            || child.try_wait().expect("wait").is_some()
    });
    File::create(it.container.rootfs().join("tmp/stop")).expect("stop");
    let mut said = String::new();
    child.stdout.take().expect("stdout").read_to_string(&mut said).expect("read");
    let log = fs::read_to_string(it.container.path("log")).unwrap_or_default();
    assert_eq!((child.wait().expect("wait").code(), said.as_str()), (Some(7), "bye\n"), "{log}");
    it.container.assert_gone();
}

#[test]
fn established_connections_inside_the_container_survive() {
    needs_criu!();
    gpurun_only!("under runc the loopback interface is off after a restore");
    // The client sends what comes out of a fifo.
    let script = "mkfifo /tmp/in; sleep 1000 | busybox nc -l -p 5000 > /tmp/got & sleep 0.3; \
                  while :; do cat /tmp/in; done | busybox nc 127.0.0.1 5000";
    let it = Checkpointed::running(Runtime::native(), Config::sh(script));
    std::thread::sleep(Duration::from_millis(500));
    it.container.sh("echo one > /tmp/in");
    wait_for("the first line", || it.file("tmp/got") == "one\n");
    it.checkpoint(&[]).refused(1, &["criu failed: type "]);
    assert_eq!(it.container.status(), "running", "a failed dump leaves the container alone");
    it.checkpoint(&["--tcp-established"]).silent();
    it.restore(&["--tcp-established"]);
    it.container.sh("echo two > /tmp/in");
    wait_for("the second line", || it.file("tmp/got") == "one\ntwo\n");
}

#[test]
fn mounts_from_outside_are_there_again() {
    needs_criu!();
    gpurun_only!("runc leaves mount points in the image");
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(directory.path().join("sub")).expect("directory");
    fs::write(directory.path().join("file"), "from the host\n").expect("file");
    let (outside, file) = (directory.path(), directory.path().join("file"));
    let it = Checkpointed::running(
        Runtime::native(),
        Config::sh(COUNTER)
            .mount("/data", "bind", text(outside), &["bind", "rw"])
            .mount("/data/sub", "tmpfs", "tmpfs", &["nosuid"])
            .mount("/etc/a file", "bind", text(&file), &["bind", "ro"])
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"])
            .namespace("cgroup", None),
    );
    it.container.sh("echo kept > /data/sub/inside");
    it.counts_beyond(1);
    let mounts = it.mounts();
    it.checkpoint(&[]).silent();
    assert!(!it.container.rootfs().join("data").exists(), "mount points are taken away");
    fs::write(outside.join("new"), "since then\n").expect("file");
    it.restore(&[]);
    assert_eq!(it.mounts(), mounts);
    assert_eq!(
        it.container.sh("cat '/etc/a file' /data/new /data/sub/inside; touch /data/back"),
        "from the host\nsince then\nkept"
    );
    assert!(outside.join("back").exists());
    it.container.exec(&["touch", "/etc/a file"]).refused(1, &["Read-only"]);
    it.container.stop();
    it.container.delete(&[]).silent();
    assert!(!it.container.rootfs().join("data").exists(), "and once more");
}

#[test]
fn a_network_namespace_of_somebody_else_is_joined_again() {
    needs_criu!();
    let mut holder =
        Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().expect("unshare");
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = fs::read_link("/proc/self/ns/net").expect("namespace");
    wait_for("the namespace", || fs::read_link(&path).is_ok_and(|theirs| theirs != own));
    let it = Checkpointed::running(
        Runtime::native(),
        Config::sh(COUNTER).namespace("network", Some(path.as_str())),
    );
    it.counts_beyond(1);
    it.checkpoint(&[]).silent();
    it.restore(&[]);
    let theirs = fs::read_link(format!("/proc/{}/ns/net", it.container.pid())).expect("namespace");
    assert_eq!(theirs, fs::read_link(&path).expect("namespace"));
    drop(it);
    let _ = holder.kill();
    let _ = holder.wait();
}

#[test]
fn the_loopback_interface_is_on_after_a_restore() {
    needs_criu!();
    gpurun_only!("under runc it is off");
    let it = Checkpointed::running(Runtime::native(), Config::sh(COUNTER));
    it.counts_beyond(1);
    it.checkpoint(&[]).silent();
    it.restore(&[]);
    let link = it.container.sh("ip -o addr show lo");
    assert!(link.contains("127.0.0.1/8"), "{link}");
    assert!(it.container.sh("ip -o link show lo").contains(",UP"), "{link}");
}

#[test]
fn the_network_has_its_parameters_after_a_restore() {
    needs_criu!();
    gpurun_only!("under runc it has the kernel's");
    let sysctls = json!({"net.core.somaxconn": "777", "kernel.msgmax": "9999"});
    let config = Config::idle().set("/linux/sysctl", sysctls);
    let it = Checkpointed::running(Runtime::native(), config);
    it.checkpoint(&[]).silent();
    it.restore(&[]);
    let set = it.container.sh("cd /proc/sys; cat net/core/somaxconn kernel/msgmax");
    assert_eq!(set, "777\n9999");
}

/// The images of cgroup v1 have device rules, too.
#[test]
fn device_rules_are_the_bundles_also_where_all_of_cgroups_is_restored() {
    needs_criu!();
    gpurun_only!("under runc they are the images'");
    let numbers = json!({"path": "/dev/a0", "type": "c", "major": 195, "minor": 0});
    let nothing = json!([{"allow": false, "access": "rwm"}]);
    let rule = json!({"allow": true, "type": "c", "major": 195, "minor": 0, "access": "rwm"});
    let after =
        Config::idle().push("/linux/devices", numbers).set("/linux/resources/devices", nothing);
    let before = after.clone().push("/linux/resources/devices", rule);
    let it = Checkpointed::running(Runtime::native(), before);
    let open = || it.container.exec(&["cat", "/dev/a0"]);
    open().refused(1, &["No such device or address"]);
    it.checkpoint(&[]).silent();
    it.container.configure(after);
    it.restore(&["--manage-cgroups-mode", "full"]);
    open().refused(1, &["Operation not permitted"]);
}

#[test]
fn a_gpu_container_has_its_devices_and_driver_again() {
    needs_criu!();
    gpurun_only!("GPUs are gpurun's");
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = match MadeUpHost::build(directory.path(), &Layout::with_gpus(2)) {
        Ok(host) => host,
        Err(err) => return skipped(&format!("cannot make a machine up: {err}")),
    };
    let env = ["NVIDIA_VISIBLE_DEVICES=1", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"];
    let gpu = GpuContainer::new(Runtime::native(), &host, config(&env, &["sh", "-c", COUNTER]));
    let it = Checkpointed { container: gpu.container, environment: Some(host.config()) };
    it.start();
    it.counts_beyond(1);
    let look = "nodes nodes | sort; ls -l /usr/lib* /usr/lib*/* | grep -c libcuda; cat /etc/ld.so.cache \
                | od | head";
    let (seen, mounts) = (it.container.sh(look), it.mounts());
    assert!(gpu_nodes(&seen).iter().any(|(path, ..)| path == "/dev/nvidia1"), "{seen}");
    it.checkpoint(&[]).silent();
    it.restore(&[]);
    it.counts_beyond(it.count());
    assert_eq!(it.container.sh(look), seen);
    assert_eq!(it.mounts(), mounts);
    // The rule allows it, and no driver is there.
    let opened = it.container.exec(&["sh", "-c", "cat /dev/nvidia1"]);
    opened.refused(1, &["No such device or address"]);
    it.container.stop();
    it.container.delete(&[]).silent();
    it.container.assert_gone();
}

/// criu opens files there by name, as root, and does what they say.
#[test]
fn directories_that_others_can_write_are_no_place_for_images_and_logs() {
    needs_criu!();
    gpurun_only!("runc has criu follow links there");
    let it = Checkpointed::running(Runtime::native(), Config::idle());
    let (images, work) = (it.container.path("images"), it.container.path("work"));
    let mine = it.container.path("mine");
    fs::write(&mine, "root's own\n").expect("file");
    let link = |name: &str| symlink(&mine, images.join(name)).expect("link");
    fs::create_dir(&images).expect("directory");
    fs::create_dir(&work).expect("directory");
    chown(&images, Some(1000), None).expect("owner");
    link("dump.log");
    it.checkpoint(&[]).refused(1, &["images belongs to user 1000", "chown"]);
    chown(&images, Some(0), None).expect("owner");
    it.checkpoint(&[]).refused(1, &["images/dump.log is a link"]);
    fs::remove_file(images.join("dump.log")).expect("link");
    fs::set_permissions(&work, fs::Permissions::from_mode(0o1777)).expect("mode");
    it.checkpoint(&[]).refused(1, &["work can be written by everyone"]);
    fs::set_permissions(&work, fs::Permissions::from_mode(0o700)).expect("mode");
    it.checkpoint(&[]).silent();

    link("restore.log");
    it.restore_fails(&images, &["images/restore.log is a link"]);
    fs::remove_file(images.join("restore.log")).expect("link");
    let image = images.join("inventory.img");
    chown(&image, Some(1000), None).expect("owner");
    it.restore_fails(&images, &["images/inventory.img belongs to user 1000"]);
    chown(&image, Some(0), None).expect("owner");
    it.container.assert_gone();
    it.restore(&[]);
    assert_eq!(fs::read_to_string(&mine).expect("file"), "root's own\n");
}

#[test]
fn hooks_run_as_in_runc() {
    needs_criu!();
    let directory = tempfile::tempdir().expect("temporary directory");
    let log = directory.path().join("hooks");
    let hook = |name: &str| {
        let script = format!("echo {name} >> {}", log.display());
        json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
    };
    let mut config = Config::sh(COUNTER);
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        config = config.hook(kind, hook(kind));
    }
    let it = Checkpointed::running(Runtime::native(), config);
    it.counts_beyond(1);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    fs::write(&log, "").expect("log");
    it.checkpoint(&[]).silent();
    assert_eq!(said(), "poststop\n");
    it.restore(&[]);
    assert_eq!(said(), "poststop\nprestart\ncreateRuntime\n");
}

#[test]
fn what_cannot_be_dumped_or_restored_is_said_and_nothing_is_left() {
    needs_criu!();
    gpurun_only!("what gpurun says");
    let it = Checkpointed::new(Runtime::native(), Config::sh(COUNTER));
    it.container.call_on("checkpoint", &[]).refused(1, &["does not exist"]);
    it.restore_fails(&it.container.path("none"), &["/none: No such file"]);
    it.container.assert_gone();
    fs::create_dir(it.container.path("empty")).expect("directory");
    it.restore_fails(&it.container.path("empty"), &["is it the directory of a checkpoint"]);
    it.container.assert_gone();

    it.container.create().silent();
    it.checkpoint(&[]).refused(1, &["cannot be checkpointed in created state"]);
    it.container.delete(&["--force"]).silent();
    it.start();
    it.checkpoint(&["--parent-path", "/abs"]).refused(1, &["--parent-path must be relative"]);
    it.checkpoint(&["--parent-path", "none"]).refused(1, &["invalid --parent-path"]);
    it.checkpoint(&["--page-server", "1"]).refused(1, &["Use --page-server ADDRESS:PORT"]);
    it.checkpoint(&["--manage-cgroups-mode", "x"]).refused(1, &["invalid manage-cgroups-mode"]);
    let images = it.container.path("images");
    let args = ["checkpoint", "--image-path", text(&images), it.container.id()];
    let without = it.container.command(&args).env("PATH", "/nonexistent").output().expect("run");
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(said.contains("executable file not found in $PATH"), "{said}");
    assert_eq!(it.container.status(), "running");

    it.checkpoint(&[]).silent();
    let damaged = fs::read_dir(&images)
        .expect("images")
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("mm-"))
        .expect("an image of memory");
    fs::write(damaged.path(), "nonsense").expect("damage");
    it.restore_fails(&images, &["criu failed: type RESTORE", "restore.log"]);
    it.container.assert_gone();
}
