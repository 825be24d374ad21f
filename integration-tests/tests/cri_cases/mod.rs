//! A private containerd with its CRI plugin, and a client of the kubelet's protocol. No kubelet and
//! no network plugin: pods use the machine's network.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use hyper_util::rt::TokioIo;
use integration_tests::daemon::{Daemon, remove_cgroup};
use integration_tests::{Runtime, probe, rootfs, wait_for};
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatusRequest,
    CreateContainerRequest, ExecSyncRequest, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, RemoveContainerRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, VersionRequest,
};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

/// An image with busybox and the probe `nodes`.
pub const IMAGE: &str = "gpurun.test/plain:1";
/// The same with the variable that CUDA's images set.
pub const CUDA_IMAGE: &str = "gpurun.test/cuda:1";

/// A running containerd, its images imported.
pub struct Cri {
    daemon: Daemon,
    client: RuntimeServiceClient<Channel>,
    tokio: tokio::runtime::Runtime,
    cgroup_parent: String,
    names: AtomicU32,
}

impl Cri {
    /// Starts it with the runtime under test, a gpurun, for each of `handlers`, as `gpurun node
    /// configure` writes them, and with `config` as gpurun's configuration. Pods that name no
    /// handler get the first.
    pub fn start(config: &Path, handlers: [&str; 2]) -> io::Result<Self> {
        let marker = format!("gpurun-cri-{}", std::process::id());
        let dir = Path::new("/tmp").join(&marker);
        fs::create_dir_all(&dir)?;
        let socket = dir.join("ctrd.sock");
        let file = dir.join("config.toml");
        fs::write(&file, engine_config(&dir, &socket, knows_cdi()))?;
        configure(&file, handlers)?;
        let args = ["--config".to_owned(), file.display().to_string()];
        let ctr = |args: &[&str]| {
            let mut command = Command::new("ctr");
            command.args(["--namespace", "k8s.io", "--address"]).arg(&socket).args(args);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.output()
        };
        let ready = || ctr(&["version"]).is_ok_and(|output| output.status.success());
        let env = [("GPURUN_CONFIG", config.as_os_str())];
        let daemon = Daemon::start(&dir, "containerd", &args, &env, ready)?;
        for (name, env) in [(IMAGE, &[][..]), (CUDA_IMAGE, &["NVIDIA_VISIBLE_DEVICES=all"][..])] {
            let archive = image(&dir, name, env)?;
            let output = ctr(&["images", "import", &archive.display().to_string()])?;
            if !output.status.success() {
                return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
            }
        }
        let tokio = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let endpoint = Endpoint::from_static("http://containerd");
        let channel = tokio.block_on(endpoint.connect_with_connector(connect));
        let client = RuntimeServiceClient::new(channel.map_err(io::Error::other)?);
        let cgroup_parent = format!("/{marker}");
        let cri = Self { daemon, client, tokio, cgroup_parent, names: AtomicU32::new(0) };
        let mut client = cri.client.clone();
        let version = client.version(VersionRequest { version: "v1".to_owned() });
        match cri.call(version) {
            Ok(_) => Ok(cri),
            Err(status) => Err(io::Error::other(format!("{}\n{}", status.message(), cri.log()))),
        }
    }

    /// Runs a pod sandbox under a handler (a RuntimeClass's), in the machine's network.
    #[track_caller]
    pub fn pod(&self, handler: &str, namespace: &str) -> Pod<'_> {
        let name = format!("pod-{}", self.names.fetch_add(1, Ordering::Relaxed));
        let logs = self.daemon.dir.join("logs").join(&name);
        fs::create_dir_all(&logs).expect("the pod's directory of logs");
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                uid: name.clone(),
                name,
                namespace: namespace.to_owned(),
                attempt: 0,
            }),
            log_directory: logs.display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent.clone(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(host_network()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let mut client = self.client.clone();
        let reply = self.call(client.run_pod_sandbox(request));
        let id = reply.unwrap_or_else(|e| panic!("RunPodSandbox: {}", e.message())).pod_sandbox_id;
        Pod { cri: self, id, config }
    }

    /// What containerd has logged so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Below which everything of this containerd is mounted.
    pub fn dir(&self) -> &Path {
        &self.daemon.dir
    }

    fn call<T>(
        &self,
        request: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.tokio.block_on(request).map(tonic::Response::into_inner)
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        remove_cgroup(&self.cgroup_parent);
    }
}

/// A pod, removed when this goes out of scope.
pub struct Pod<'a> {
    cri: &'a Cri,
    id: String,
    config: PodSandboxConfig,
}

impl Pod<'_> {
    /// A container of this image that sleeps until it is removed, as the kubelet would ask for it.
    pub fn container(&self, image: &str) -> ContainerConfig {
        let number = self.cri.names.fetch_add(1, Ordering::Relaxed);
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: format!("c{number}"), attempt: 0 }),
            image: Some(ImageSpec { image: image.to_owned(), ..Default::default() }),
            command: ["sleep", "1000"].map(str::to_owned).to_vec(),
            log_path: format!("c{number}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(host_network()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Creates and starts the container; the error is what the kubelet would show.
    pub fn start(&self, config: ContainerConfig) -> Result<Container<'_>, String> {
        let mut client = self.cri.client.clone();
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let words = |status: Status| status.message().to_owned();
        let id = self.cri.call(client.create_container(request)).map_err(words)?.container_id;
        let container = Container { cri: self.cri, id: id.clone() };
        let request = StartContainerRequest { container_id: id };
        self.cri.call(client.start_container(request)).map_err(words)?;
        Ok(container)
    }

    /// [`Pod::start`], which must succeed.
    #[track_caller]
    pub fn run(&self, config: ContainerConfig) -> Container<'_> {
        self.start(config).unwrap_or_else(|message| panic!("{message}"))
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let mut client = self.cri.client.clone();
        let request = RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() };
        let _ = self.cri.call(client.remove_pod_sandbox(request));
    }
}

/// A container, removed when this goes out of scope.
pub struct Container<'a> {
    cri: &'a Cri,
    id: String,
}

impl Container<'_> {
    /// What the runtime has logged about it.
    #[track_caller]
    pub fn log(&self) -> String {
        let tasks = self.cri.dir().join("state/io.containerd.runtime.v2.task/k8s.io");
        let path = tasks.join(&self.id).join("log.json");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The output of a program in it, which must succeed.
    #[track_caller]
    pub fn exec(&self, program: &[&str]) -> String {
        let mut client = self.cri.client.clone();
        let cmd = program.iter().map(|word| (*word).to_owned()).collect();
        let request = ExecSyncRequest { container_id: self.id.clone(), cmd, timeout: 20 };
        match self.cri.call(client.exec_sync(request)) {
            Ok(reply) if reply.exit_code == 0 => {
                String::from_utf8_lossy(&reply.stdout).trim_end().to_owned()
            }
            Ok(reply) => panic!("{program:?}: {}", String::from_utf8_lossy(&reply.stderr)),
            Err(status) => panic!("{program:?}: {}", status.message()),
        }
    }

    /// Waits for the end of its program; the exit status.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        let status = || {
            let mut client = self.cri.client.clone();
            let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
            let reply = self.cri.call(client.container_status(request)).expect("ContainerStatus");
            reply.status.expect("a status")
        };
        wait_for("the end", || status().state == ContainerState::ContainerExited as i32);
        status().exit_code
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut client = self.cri.client.clone();
        let request = RemoveContainerRequest { container_id: self.id.clone() };
        let _ = self.cri.call(client.remove_container(request));
    }
}

/// Environment variables as the kubelet passes them.
pub fn envs(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let pair = |(key, value): &(&str, &str)| {
        let (key, value) = ((*key).to_owned(), (*value).to_owned());
        KeyValue { key, value }
    };
    pairs.iter().map(pair).collect()
}

/// One annotation.
pub fn annotation(key: &str, value: impl Display) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_string())])
}

fn host_network() -> NamespaceOption {
    NamespaceOption { network: NamespaceMode::Node as i32, ..Default::default() }
}

/// Whether containerd applies the CDI devices of the protocol: since 1.7.
pub fn knows_cdi() -> bool {
    let output = Command::new("containerd").arg("--version").output().expect("containerd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('v');
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(1), Some(7))
}

/// `version = 2`, which containerd 1.x and 2.x read. Its own runc says where states are.
fn engine_config(dir: &Path, socket: &Path, with_cdi: bool) -> String {
    let (here, socket) = (dir.display(), socket.display());
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let cdi = match with_cdi {
        true => format!("enable_cdi = true\ncdi_spec_dirs = [\"{here}/cdi\"]\n"),
        false => String::new(),
    };
    let runc = format!("{cri}.containerd.runtimes.runc");
    format!(
        "version = 2\nroot = \"{here}/root\"\nstate = \"{here}/state\"\n\
         [grpc]\naddress = \"{socket}\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{here}/opt\"\n\
         [{cri}]\nsandbox_image = \"{IMAGE}\"\n\
         # Root may lack CAP_SYS_RESOURCE.\nrestrict_oom_score_adj = true\n\
         disable_tcp_service = true\nenable_selinux = false\n\
         {cdi}[{cri}.cni]\nbin_dir = \"{here}/cni\"\nconf_dir = \"{here}/cni\"\n\
         [{cri}.containerd]\nsnapshotter = \"native\"\ndefault_runtime_name = \"runc\"\n\
         [{runc}]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [{runc}.options]\nRoot = \"{here}/runtime\"\n"
    )
}

/// Makes gpurun a runtime of the containerd that reads this file.
fn configure(file: &Path, [class, other]: [&str; 2]) -> io::Result<()> {
    let mut command = Command::new(Runtime::binary());
    command.args(["node", "configure", "containerd", "--force", "--set-as-default", "--config"]);
    command.arg(file).args(["--runtime-class", class, "--as", other]);
    run(command.arg("--path").arg(Runtime::binary())).map(drop)
}

/// An archive as `docker save` makes it.
fn image(dir: &Path, name: &str, env: &[&str]) -> io::Result<PathBuf> {
    let here = dir.join("image");
    if !here.exists() {
        fs::create_dir(&here)?;
        rootfs::build(&here.join("rootfs"));
        fs::copy(probe::nodes()?, here.join("rootfs/bin/nodes"))?;
        let tar = ["-C", "rootfs", "--numeric-owner", "-cf", "layer.tar", "."];
        run(Command::new("tar").args(tar).current_dir(&here))?;
    }
    let sum = run(Command::new("sha256sum").arg("layer.tar").current_dir(&here))?;
    let digest = sum.split_whitespace().next().unwrap_or_default();
    let env: Vec<&str> = [&["PATH=/bin:/usr/bin"], env].concat();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": env, "Cmd": ["sleep", "100000"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]},
    ]);
    fs::write(here.join("config.json"), config.to_string())?;
    fs::write(here.join("manifest.json"), manifest.to_string())?;
    let archive = dir.join(format!("{}.tar", name.replace(['/', ':'], "-")));
    let files = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").arg("-cf").arg(&archive).args(files).current_dir(&here))?;
    Ok(archive)
}

fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}
