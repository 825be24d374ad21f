//! The runtime's own program is overwritten through /proc.

use crate::Scene;
use integration_tests::container::text;
use integration_tests::{Config, Runtime, gpurun_only, runtime};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

/// runc's and crun's. The rest of it, a process that finds the runtime in /proc while `exec` works,
/// is in `tests/prowl.rs`.
#[test]
fn cve_2019_5736_an_entry_point_that_is_the_runtime_does_not_change_it() {
    gpurun_only!("the words are gpurun's");
    for entry in ["#!/proc/self/exe\n", "#!/proc/self/exe run\n", "a link"] {
        let scene = Scene::new(Config::args(&["/entry"]));
        // Opens the program that it is for writing, as the published exploit's library does.
        if entry.starts_with("#!") {
            fs::write(scene.at("entry"), entry).unwrap();
            fs::set_permissions(scene.at("entry"), fs::Permissions::from_mode(0o755)).unwrap();
        } else {
            symlink("/proc/self/exe", scene.at("entry")).unwrap();
        }
        // A copy that nobody else executes: what is executed cannot be written anyway.
        let binary = scene.container.path("runtime");
        fs::copy(Runtime::binary(), &binary).unwrap();
        let meta = |path| fs::metadata(path).map(|m| (m.ino(), m.len(), m.mtime())).unwrap();
        let (before, content) = (meta(&binary), fs::read(&binary).unwrap());
        let bundle = scene.container.bundle();
        let args = ["run", "--bundle", text(&bundle), scene.container.id()];
        let mut command = Command::new(&binary);
        command.args(scene.container.command(&args).get_args());
        let output = runtime::finish(&mut command, b"");
        // Without a command there is nothing to refuse: the usage is printed.
        assert!(output.code != 0, "{entry}: {output:?}");
        if entry.contains("run") {
            assert!(output.stderr.contains("refusing to run"), "{entry}: {output:?}");
        }
        assert_eq!(before, meta(&binary));
        assert!(content == fs::read(&binary).unwrap());
        scene.assert_safe();
    }
}
