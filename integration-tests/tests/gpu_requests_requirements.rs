//! `NVIDIA_REQUIRE_…`: a note by default, an error where the administrator wants one.

use std::fs;
use std::io::Write;

use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, gpurun_only};
use tempfile::TempDir;

/// A machine with driver 535.261.03, and this line in the `[nvidia]` table.
fn machine(line: &str) -> (MadeUpHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(1)).expect("made-up machine");
    let mut file = fs::File::options().append(true).open(host.config()).expect("configuration");
    writeln!(file, "{line}").expect("write the configuration");
    (host, directory)
}

const GPU: &str = "NVIDIA_VISIBLE_DEVICES=0";
const UNMET: &str = "NVIDIA_REQUIRE_DRIVER=driver>=470,driver<471 driver>=550";

#[test]
fn by_default_an_unmet_requirement_is_a_note_of_explain_and_no_more() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine("");
    let gpu = GpuContainer::new(Runtime::native(), &host, config(&[GPU, UNMET], &["true"]));
    gpu.run().ok();
    let bundle = gpu.container.bundle();
    let output = gpu.call(&["explain", "--bundle", bundle.to_str().expect("UTF-8 path")]);
    assert!(output.ok().contains("unsatisfied condition: driver<471"), "{output:?}");
}

#[test]
fn an_administrator_can_have_containers_refused() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine("unmet-requirements = \"error\"");
    let unmet = "unsatisfied condition: driver<471, please update your driver to a newer version, \
                 or use an earlier cuda container";
    let table: &[(&[&str], Option<&str>)] = &[
        (&[GPU, UNMET], Some(unmet)),
        (&[GPU, "NVIDIA_REQUIRE_DRIVER=driver>=470,driver<471 driver>=535"], None),
        (&[GPU, "NVIDIA_REQUIRE_A=driver>=1", "NVIDIA_REQUIRE_B=driver>999"], Some("driver>999")),
        (&[GPU, "NVIDIA_REQUIRE_CUDA=cuda>=12.2 brand=tesla,driver>=535"], None),
        (&[GPU, "NVIDIA_REQUIRE_CUDA=cuda 12"], Some("invalid expression \"cuda\"")),
        (&[GPU, UNMET, "NVIDIA_DISABLE_REQUIRE=true"], None),
        // Nobody asks for a GPU, so nobody cares.
        (&[UNMET], None),
    ];
    for (env, refusal) in table {
        let gpu = GpuContainer::new(Runtime::native(), &host, config(env, &["echo", "started"]));
        match refusal {
            None => assert_eq!(gpu.run().ok(), "started", "{env:?}"),
            Some(phrase) => gpu.run().refused(1, &[phrase]),
        }
    }
    let (host, _directory) = machine("unmet-requirements = \"error\"\ndisable-require = true");
    let config = config(&[GPU, UNMET], &["echo", "started"]);
    assert_eq!(GpuContainer::new(Runtime::native(), &host, config).run().ok(), "started");
}
