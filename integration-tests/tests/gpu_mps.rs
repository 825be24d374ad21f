//! CUDA's multi-process service: a container reaches the daemon of the machine.

use std::fs;
use std::io::Write;

use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, gpurun_only};

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
