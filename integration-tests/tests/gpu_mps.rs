//! CUDA's multi-process service: a container reaches the daemon of the machine.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use integration_tests::container::text;
use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::race::Racer;
use integration_tests::{Runtime, gpurun_only, stub_driver};

/// A machine with a driver root of its own, and the `tmp` in there.
fn with_a_driver_root(directory: &Path) -> (MadeUpHost, PathBuf) {
    let layout = Layout::with_gpus(1);
    let root = directory.join("driver");
    stub_driver::build(&root, &layout.library_version).expect("build a driver root");
    let layout = Layout { driver_root: Some(root.clone()), ..layout };
    let host = MadeUpHost::build(&directory.join("machine"), &layout).expect("made-up machine");
    (host, root.join("tmp"))
}

#[test]
fn pipes_shared_memory_and_variable_of_a_daemon_are_in_the_container() {
    gpurun_only!("other runtimes know no GPU requests");
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(1)).expect("made-up machine");
    let [pipes, memory] = ["pipe", "shm"].map(|name| directory.path().join("mps").join(name));
    let lines = format!("mps-pipe-directory = {pipes:?}\nmps-shm-directory = {memory:?}");
    let mut file = fs::File::options().append(true).open(host.config()).expect("configuration");
    writeln!(file, "{lines}").expect("write the configuration");
    let script = "echo \"$CUDA_MPS_PIPE_DIRECTORY\"; ls /dev/shm; \
                  echo word > \"$CUDA_MPS_PIPE_DIRECTORY/control\"";
    let env = ["NVIDIA_VISIBLE_DEVICES=0"];
    let container =
        |runtime| GpuContainer::new(runtime, &host, config(&env, &["sh", "-c", script]));

    // No daemon: an ordinary container.
    let output = container(Runtime::native()).run();
    assert_eq!(output.stdout.trim(), "", "{output:?}");

    fs::create_dir_all(&pipes).expect("make the directory of pipes");
    fs::create_dir_all(&memory).expect("make the directory of shared memory");
    fs::write(memory.join("cuda.shm.0"), "").expect("make a segment");
    for runtime in Runtime::each() {
        fs::write(pipes.join("control"), "").expect("make the pipe");
        let expected = format!("{}\ncuda.shm.0", pipes.display());
        assert_eq!(container(runtime).run().ok(), expected, "{runtime:?}");
        let said = fs::read_to_string(pipes.join("control")).expect("read the pipe");
        assert_eq!(said, "word\n", "{runtime:?}");
    }
}

#[test]
fn a_directory_of_pipes_that_is_exchanged_for_a_link_brings_nothing_of_the_host() {
    gpurun_only!("other runtimes know no GPU requests");
    let directory = tempfile::tempdir().expect("temporary directory");
    let (host, tmp) = with_a_driver_root(directory.path());
    let (pipes, link) = (tmp.join("nvidia-mps"), tmp.join("link"));
    let secret = directory.path().join("secret");
    fs::create_dir_all(&pipes).expect("make the directory of pipes");
    fs::create_dir_all(&secret).expect("make the secret directory");
    fs::write(secret.join("word"), "secret").expect("write the secret");
    symlink(&secret, &link).expect("make the link");
    let script = "cat /tmp/nvidia-mps/word; echo taken > /tmp/nvidia-mps/word; true";
    let env = ["NVIDIA_VISIBLE_DEVICES=0"];
    let racer = Racer::start(vec![(pipes, link)]);
    let mut started = 0;
    for _ in 0..40 {
        let config = config(&env, &["sh", "-c", script]);
        let output = GpuContainer::new(Runtime::native(), &host, config).run();
        // Refused, where the link is met when the directory is to be mounted.
        started += u32::from(output.code == 0);
        assert!(!output.stdout.contains("secret"), "{output:?}");
    }
    assert!(racer.exchanges() > 0 && started > 0);
    assert_eq!(fs::read_to_string(secret.join("word")).expect("read the secret"), "secret");
}

#[test]
fn a_directory_that_an_ordinary_user_made_in_tmp_is_left_out_with_the_reason() {
    gpurun_only!("other runtimes know no GPU requests");
    let directory = tempfile::tempdir().expect("temporary directory");
    let (host, tmp) = with_a_driver_root(directory.path());
    let pipes = tmp.join("nvidia-mps");
    fs::create_dir_all(&pipes).expect("make the directory of pipes");
    fs::write(pipes.join("control"), "").expect("make the pipe");
    let run = || {
        let script = "ls /tmp/nvidia-mps 2> /dev/null; true";
        let config = config(&["NVIDIA_VISIBLE_DEVICES=0"], &["sh", "-c", script]);
        let container = GpuContainer::new(Runtime::native(), &host, config);
        let (bundle, log) = (container.container.bundle(), directory.path().join("log"));
        let words =
            ["--log", text(&log), "run", "--bundle", text(&bundle), container.container.id()];
        let listed = container.call(&words).ok().to_owned();
        (listed, fs::read_to_string(log).unwrap_or_default())
    };
    assert_eq!(run(), ("control".to_owned(), String::new()));
    chown(&pipes, Some(1000), Some(1000)).expect("give it to an ordinary user");
    let (listed, log) = run();
    assert_eq!(listed, "");
    for phrase in ["level=warning", "/tmp/nvidia-mps is left out", "belongs to user 1000"] {
        assert!(log.contains(phrase), "{phrase}: {log}");
    }
}
