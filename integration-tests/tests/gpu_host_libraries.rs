//! A driver in a place that only the loader's cache of the machine knows.

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost};
use integration_tests::{Runtime, gpurun_only, stub_driver};

/// The stub driver, its libraries moved to `/srv/gpu/lib` and entered in `/etc/ld.so.cache`.
fn odd_driver(root: &Path) -> io::Result<bool> {
    stub_driver::build(root, DRIVER_VERSION)?;
    let usual = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    fs::create_dir_all(root.join("srv/gpu"))?;
    fs::rename(usual, root.join("srv/gpu/lib"))?;
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/ld.so.conf"), "/srv/gpu/lib\n")?;
    let run = Command::new("/sbin/ldconfig").args(["-X", "-r"]).arg(root).output();
    Ok(run.is_ok_and(|output| output.status.success()))
}

#[test]
fn a_driver_that_only_the_loaders_cache_knows_is_given_to_the_container() {
    gpurun_only!("other runtimes know no GPU requests");
    let directory = tempfile::tempdir().expect("temporary directory");
    let root = directory.path().join("driver");
    if !odd_driver(&root).expect("build a driver root") {
        println!("skipped: no ldconfig");
        return;
    }
    let layout = Layout { driver_root: Some(root.clone()), ..Layout::with_gpus(1) };
    let host = MadeUpHost::build(&directory.path().join("machine"), &layout).expect("a machine");
    let env = ["NVIDIA_VISIBLE_DEVICES=all"];
    let find = "find / -xdev -name 'libcuda.so.*' -o -xdev -name 'libnvidia-ml.so.*'";
    let container = || {
        let config = config(&env, &["sh", "-c", find]);
        GpuContainer::new(Runtime::native(), &host, config)
    };
    let output = container().run();
    for stem in ["libcuda", "libnvidia-ml"] {
        let name = format!("/{stem}.so.{DRIVER_VERSION}\n");
        assert!(output.ok().contains(name.trim_end()), "{output:?}");
    }
    fs::remove_file(root.join("etc/ld.so.cache")).expect("remove the cache");
    let refused = container();
    let output = refused.run();
    assert!(output.code != 0 && output.stderr.contains("library-paths"), "{output:?}");
    refused.container.assert_gone();
}
