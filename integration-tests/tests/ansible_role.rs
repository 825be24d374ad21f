//! hack/ansible's role, run by ansible-playbook against a node in a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::{Runtime, gpurun_only, skipped};

/// `$ANSIBLE_PLAYBOOK`, or the one in `$PATH`.
fn playbook() -> Option<PathBuf> {
    let program = std::env::var_os("ANSIBLE_PLAYBOOK").unwrap_or("ansible-playbook".into());
    let works = Command::new(&program).arg("--version").output();
    works.is_ok_and(|output| output.status.success()).then(|| program.into())
}

/// Runs the role, and returns the line of the recap.
fn run(playbook: &Path, root: &Path, options: &[&str]) -> String {
    let ansible = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/ansible");
    let mut command = Command::new(playbook);
    command.args(["-i", "localhost,", "-c", "local"]);
    command.args(["-e", "ansible_python_interpreter={{ ansible_playbook_python }}"]);
    command.arg(ansible.join("playbook.yml"));
    command.args(["-e", "gpurun_become=false gpurun_restart=false gpurun_force=true"]);
    command.args(["-e", &format!("gpurun_root={}", root.display())]);
    command.args(["-e", &format!("gpurun_source={}", Runtime::binary().display())]);
    command.args(["-e", "{\"gpurun_names\": [\"nvidia\"]}"]).args(options);
    command.env("ANSIBLE_ROLES_PATH", ansible.join("roles")).env("ANSIBLE_NOCOLOR", "1");
    command
        .env("ANSIBLE_LOCAL_TEMP", root.join("tmp"))
        .env("ANSIBLE_REMOTE_TEMP", root.join("tmp"));
    let output = command.output().expect("start ansible-playbook");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let recap = text.lines().rfind(|line| line.contains("changed="));
    recap.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_second_run_changes_nothing_and_absent_takes_everything_back() {
    gpurun_only!("it configures gpurun");
    let Some(playbook) = playbook() else {
        return skipped("no ansible-playbook in PATH or ANSIBLE_PLAYBOOK (PyPI: ansible-core)");
    };
    let root = tempfile::tempdir().expect("temporary directory");
    for dir in ["etc/containerd", "usr/bin", "usr/local/bin", "proc", "sys", "dev"] {
        fs::create_dir_all(root.path().join(dir)).expect("directory");
    }
    fs::write(root.path().join("usr/bin/dockerd"), "").expect("write");
    let config = root.path().join("etc/containerd/config.toml");
    fs::write(&config, "version = 2\n# ours\n").expect("write");

    // Nothing is there yet, so check mode can only say that the program is missing.
    let check = run(&playbook, root.path(), &["--check"]);
    assert!(check.contains("changed=1"), "{check}");
    assert!(!root.path().join("usr/local/bin/gpurun").exists());

    let first = run(&playbook, root.path(), &[]);
    assert!(first.contains("changed=4"), "program, two engines, link: {first}");
    let text = fs::read_to_string(&config).expect("read");
    assert!(text.contains("runtimes.nvidia"), "{text}");
    assert!(root.path().join("etc/docker/daemon.json").exists());
    for options in [&[][..], &["--check"]] {
        let again = run(&playbook, root.path(), options);
        assert!(again.contains("changed=0"), "{options:?}: {again}");
    }
    let more = ["--check", "-e", "gpurun_set_as_default=true"];
    let check = run(&playbook, root.path(), &more);
    assert!(check.contains("changed=2"), "{check}");
    assert_eq!(fs::read_to_string(&config).expect("read"), text, "check mode writes nothing");

    run(&playbook, root.path(), &["-e", "gpurun_state=absent"]);
    assert_eq!(fs::read_to_string(&config).expect("read"), "version = 2\n# ours\n");
    assert!(!root.path().join("etc/docker/daemon.json").exists());
    assert_eq!(fs::read_dir(root.path().join("usr/local/bin")).expect("list").count(), 0);
}
