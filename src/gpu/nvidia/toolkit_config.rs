//! NVIDIA's own toolkit, and the keys of its `config.toml` that mean something here.

use super::config::SECTION;
use super::hooks;
use crate::gpu::cdi;
use crate::gpu::toolkit::Toolkit;
use crate::host::predecessor::Predecessor;

/// gpurun's key that names another file, or says that none is to be read.
pub const KEY: &str = "toolkit-config";

const RUNTIME: &str = "nvidia-container-runtime";
const CLI: &str = "nvidia-container-cli";

/// The NVIDIA Container Toolkit.
pub static TOOLKIT: Toolkit = Toolkit {
    hooks: &hooks::INJECTORS,
    advice: "nvidia-container-runtime-hook: this is gpurun, which gives containers their GPUs \
             without hooks: start the container with gpurun as its runtime (docker run --runtime \
             gpurun --gpus ...)",
    installer_prefix: "NVIDIA_",
    configuration: &CONFIGURATION,
};

/// The file and its keys.
pub static CONFIGURATION: Predecessor = Predecessor {
    path: "/etc/nvidia-container-runtime/config.toml",
    table: SECTION,
    key: KEY,
    keys: &[
        same("disable-require", &["disable-require"]),
        same("swarm-resource", &["swarm-resource"]),
        same(
            "accept-nvidia-visible-devices-envvar-when-unprivileged",
            &["accept-nvidia-visible-devices-envvar-when-unprivileged"],
        ),
        same(
            "accept-nvidia-visible-devices-as-volume-mounts",
            &["accept-nvidia-visible-devices-as-volume-mounts"],
        ),
        same("supported-driver-capabilities", &["supported-driver-capabilities"]),
        same("driver-root", &[CLI, "root"]),
        same("load-kmods", &[CLI, "load-kmods"]),
        same(
            "no-additional-gids-for-device-nodes",
            &["features", "no-additional-gids-for-device-nodes"],
        ),
        same("ignore-imex-channel-requests", &["features", "ignore-imex-channel-requests"]),
        same("disable-cuda-compat-lib-hook", &["features", "disable-cuda-compat-lib-hook"]),
        same("cuda-compat-mode", &[RUNTIME, "modes", "legacy", "cuda-compat-mode"]),
        same("csv-directory", &[RUNTIME, "modes", "csv", "mount-spec-path"]),
        same("csv-compat-directory", &[RUNTIME, "modes", "csv", "compat-container-root"]),
        (cdi::SECTION, "spec-dirs", &[RUNTIME, "modes", "cdi", "spec-dirs"]),
        (cdi::SECTION, "annotation-prefixes", &[RUNTIME, "modes", "cdi", "annotation-prefixes"]),
    ],
};

/// A key of the `[nvidia]` table.
const fn same(
    key: &'static str,
    path: &'static [&'static str],
) -> (&'static str, &'static str, &'static [&'static str]) {
    (SECTION, key, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::nvidia::config::Config;
    use crate::gpu::nvidia::testing::Machine;

    /// As the toolkit's packages and its container write it.
    const FILE: &str = r#"
#accept-nvidia-visible-devices-as-volume-mounts = false
accept-nvidia-visible-devices-envvar-when-unprivileged = false
disable-require = false
supported-driver-capabilities = "compute,utility"
#swarm-resource = "DOCKER_RESOURCE_GPU"

[features]
no-additional-gids-for-device-nodes = true

[nvidia-container-cli]
environment = []
ldconfig = "@/sbin/ldconfig.real"
load-kmods = false
root = "/run/nvidia/driver"

[nvidia-container-runtime]
debug = "/dev/null"
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]

[nvidia-container-runtime.modes.csv]
mount-spec-path = "/opt/csv"

[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "disabled"

[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["cdi.k8s.io/", "example.com/"]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/opt/cdi"]

[nvidia-container-runtime-hook]
path = "nvidia-container-runtime-hook"
"#;

    #[test]
    fn the_file_that_the_toolkit_writes_keeps_its_meaning() {
        let machine = Machine::new();
        machine.files.write("toolkit.toml", FILE);
        let more = format!("{KEY} = {:?}", machine.at("toolkit.toml"));
        let settings = machine.settings(&more).with_predecessor(&CONFIGURATION).unwrap();
        let config = Config::read(&settings).unwrap();
        assert!(
            !config.variables.accept_unprivileged
                && !config.additional_gids
                && !config.load_modules
        );
        assert_eq!(config.supported.names(), ["compute", "utility"]);
        assert!(!config.cuda_compatibility);
        assert_eq!(config.csv_directory, std::path::Path::new("/opt/csv"));
        // gpurun's own file says where the root is.
        assert_eq!(config.driver_root, machine.at("root"));
        let cdi = cdi::Config::read(&settings).unwrap();
        assert_eq!(cdi.prefixes, ["cdi.k8s.io/", "example.com/"]);
        assert_eq!(cdi.dirs, ["/etc/cdi", "/opt/cdi"].map(std::path::PathBuf::from));

        let own = format!("{more}\nload-kmods = true");
        let settings = machine.settings(&own).with_predecessor(&CONFIGURATION).unwrap();
        assert!(Config::read(&settings).unwrap().load_modules);
    }
}
