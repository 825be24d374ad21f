//! `gpurun cdi compare`, and the script that tells explained differences from others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::{Output, Runtime, gpurun_only, runtime};
use tempfile::TempDir;

/// In the manner of NVIDIA's tool.
const THEIRS: &str = "\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
    major: 195
    minor: 255
    fileMode: 438
    permissions: rwm
  env:
  - NVIDIA_CTK_LIBCUDA_DIR=/usr/lib/x86_64-linux-gnu
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so
    env:
    - NVIDIA_CTK_DEBUG=false
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args:
    - nvidia-cdi-hook
    - enable-cuda-compat
    - --host-driver-version=535.261.03
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args:
    - nvidia-cdi-hook
    - update-ldcache
    - --folder
    - /usr/lib/x86_64-linux-gnu
    - --folder
    - /usr/lib/x86_64-linux-gnu/vdpau
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.535.261.03
    hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.535.261.03
    options: [ro, nosuid, nodev, rbind, rprivate]
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      major: 195
      permissions: rwm
  name: \"0\"
kind: nvidia.com/gpu
";

/// In the manner of gpurun's.
const OURS: &str = "\
---
cdiVersion: \"0.5.0\"
kind: nvidia.com/gpu
devices:
- name: \"0\"
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia0, type: c, major: 195, fileMode: 438, permissions: rwm}
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - {path: /dev/nvidiactl, type: c, major: 195, minor: 255, fileMode: 438, permissions: rwm}
  hooks:
  - hookName: createContainer
    path: /usr/local/bin/gpurun
    args: [gpurun, hook, create-symlinks, --link, 'libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so',
           --link, 'libcuda.so.535.261.03::/usr/lib/x86_64-linux-gnu/libcuda.so.1']
  - hookName: createContainer
    path: /usr/local/bin/gpurun
    args: [gpurun, hook, enable-cuda-compat, --host-driver-version, 535.261.03, --config=/etc/x.toml]
  - hookName: createContainer
    path: /usr/local/bin/gpurun
    args: [gpurun, hook, hide-other-gpus]
  - hookName: createContainer
    path: /usr/local/bin/gpurun
    args: [gpurun, hook, update-ldcache, --folder, /usr/lib/x86_64-linux-gnu]
  mounts:
  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.535.261.03
    containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.535.261.03
    options: [ro, nosuid, nodev, rbind, rprivate]
";

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary directory"))
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("write a CDI file");
        path
    }

    fn script(&self, theirs: &str, ours: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/cdi-compare");
        let mut command = Command::new("sh");
        command.arg(script).arg(Runtime::binary());
        command.arg(self.file("theirs.yaml", theirs)).arg(self.file("ours.yaml", ours));
        runtime::finish(&mut command, b"")
    }
}

#[test]
fn differences_that_are_on_purpose_have_a_reason_each() {
    gpurun_only!("gpurun's own command");
    let output = Files::new().script(THEIRS, OURS);
    let lines: Vec<&str> = output.ok().lines().collect();
    assert_eq!(lines.len(), 4, "{output:?}");
    for (line, (begin, reason)) in lines.iter().zip([
        ("+ *: hook hide-other-gpus\t", "GPUs only"),
        ("+ *: link /usr/lib/x86_64-linux-gnu/libcuda.so.1 to libcuda.so.535", "SONAME"),
        ("- *: env NVIDIA_CTK_LIBCUDA_DIR=", "loader's cache"),
        ("- *: loader /usr/lib/x86_64-linux-gnu/vdpau\t", "opened by path"),
    ]) {
        assert!(line.starts_with(begin) && line.contains(reason), "{line}");
    }
}

#[test]
fn a_difference_that_nobody_has_explained_is_told() {
    gpurun_only!("gpurun's own command");
    let files = Files::new();
    let output = files.script(THEIRS, &OURS.replace("path: /dev/nvidia0,", "path: /dev/nvidia7,"));
    assert_eq!(output.code, 1, "{output:?}");
    let unexplained: Vec<&str> =
        output.stdout.lines().filter(|line| line.ends_with("\tUNEXPLAINED")).collect();
    let expected = ["+ *: node /dev/nvidia7\tUNEXPLAINED", "- *: node /dev/nvidia0\tUNEXPLAINED"];
    assert_eq!(unexplained, expected);
    assert_eq!(files.script(THEIRS, THEIRS).ok(), "");
    assert_eq!(files.script("kind: [", OURS).code, 2);
}
