//! What a GPU container sees below `/proc/driver/nvidia`. The machine that runs the tests has no
//! such directory, so a container without a proc of its own has a made-up one in its image.

use std::fs;
use std::path::Path;

use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, gpurun_only};

const GPUS: &str = "proc/driver/nvidia/gpus";

/// A container whose image has the made-up machine's list of GPUs.
fn container(runtime: Runtime, host: &MadeUpHost, request: &str, script: &str) -> GpuContainer {
    let variable = format!("NVIDIA_VISIBLE_DEVICES={request}");
    let config = config(&[&variable], &["sh", "-c", script])
        .without_mount("/proc")
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let container = GpuContainer::new(runtime, host, config);
    let rootfs = container.container.rootfs();
    for gpu in &host.gpus {
        let from = host.root.join(GPUS).join(&gpu.bus_id).join("information");
        let to = rootfs.join(GPUS).join(&gpu.bus_id);
        fs::create_dir_all(&to).expect("make the list of GPUs");
        fs::copy(from, to.join("information")).expect("copy an information file");
    }
    copy(&host.root.join("proc"), &rootfs.join("proc"), "driver/nvidia/params");
    container
}

fn copy(from: &Path, to: &Path, file: &str) {
    fs::copy(from.join(file), to.join(file)).expect("copy a file");
}

#[test]
fn only_granted_gpus_are_listed_and_the_driver_may_not_make_nodes() {
    gpurun_only!("other runtimes know no GPU requests");
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(4)).expect("build a machine");
    let script = "cd /proc/driver/nvidia && ls gpus && cat gpus/*/information && cat params";
    for runtime in Runtime::each() {
        for (request, granted) in [("1", vec![1]), ("0,3", vec![0, 3]), ("all", vec![0, 1, 2, 3])] {
            let seen = container(runtime, &host, request, script).run();
            assert_eq!(seen.code, 0, "{request}: {seen:?}");
            for gpu in &host.gpus {
                let expected = granted.contains(&(gpu.index as usize));
                assert_eq!(seen.stdout.contains(&gpu.bus_id), expected, "{request}: {seen:?}");
                assert_eq!(seen.stdout.contains(&gpu.uuid), expected, "{request}: {seen:?}");
            }
            assert!(seen.stdout.contains("ModifyDeviceFiles: 0\n"), "{seen:?}");
        }
        let none = container(runtime, &host, "none", "ls -A /proc/driver/nvidia/gpus").run();
        assert_eq!((none.code, none.stdout.as_str()), (0, ""), "{none:?}");
    }
}

#[test]
fn the_list_cannot_be_written_and_the_image_keeps_its_own_after_delete() {
    gpurun_only!("other runtimes know no GPU requests");
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(2)).expect("build a machine");
    let script = "cd /proc/driver/nvidia/gpus; mkdir new; for f in */information; do echo x >$f; done; echo done";
    for runtime in Runtime::each() {
        let container = container(runtime, &host, "0", script);
        let output = container.run();
        assert!(output.stdout.contains("done"), "{output:?}");
        assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output:?}");
        let list = container.container.rootfs().join(GPUS);
        assert_eq!(fs::read_dir(list).expect("list the image's GPUs").count(), 2);
    }
}
