//! From a spec to what a user sees of it: hooks taken out, tables and JSON.

use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::json;

use super::nvidia::testing::Machine;
use super::plan::Plan;
use super::{Decision, absorb, explain, plan_for, request::Request, resolve};
use crate::paint::Paint;

fn spec(env: &[&str], hooks: serde_json::Value) -> Spec {
    serde_json::from_value(json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env},
        "hooks": hooks,
        "linux": {}
    }))
    .unwrap()
}

fn nvidia_hook(path: &str) -> serde_json::Value {
    json!({"path": path, "args": ["nvidia-container-runtime-hook", "prestart"]})
}

#[test]
fn a_spec_that_asks_for_nothing_is_left_as_it_is() {
    let mut spec = spec(
        &["PATH=/bin", "NVIDIA_VISIBLE_DEVICES="],
        json!({
            "prestart": [{"path": "/usr/bin/other"}]
        }),
    );
    let before = spec.clone();
    assert!(plan_for(&mut spec).unwrap().is_none());
    assert_eq!(spec, before);
}

/// The environment of a test cannot be changed, hence a second run of this program.
#[test]
fn the_configuration_is_opened_for_a_request_only() {
    const CONFIG: &str = "/nonexistent/gpurun.toml";
    if std::env::var("GPURUN_CONFIG").as_deref() == Ok(CONFIG) {
        for entry in [
            "A=1",
            "CUDA_VISIBLE_DEVICES=0",
            "HIP_VISIBLE_DEVICES=0",
            "AMD_VISIBLE_DEVICES=void",
            "HABANA_VISIBLE_DEVICES=",
            "ASCEND_VISIBLE_DEVICES=none",
        ] {
            assert!(plan_for(&mut spec(&[entry], json!({}))).unwrap().is_none(), "{entry}");
        }
        let asking = plan_for(&mut spec(&["NVIDIA_VISIBLE_DEVICES=all"], json!({})));
        let error = asking.unwrap_err().to_string();
        assert!(error.contains(CONFIG) && error.contains("No such file"), "{error}");
        return;
    }
    let name = "gpu::tests::the_configuration_is_opened_for_a_request_only";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact"])
        .env("GPURUN_CONFIG", CONFIG)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn the_hook_that_dockerd_adds_is_taken_out_even_when_no_gpu_is_asked_for() {
    let mut spec = spec(
        &["NVIDIA_VISIBLE_DEVICES=void"],
        json!({
            "prestart": [nvidia_hook("/usr/bin/nvidia-container-runtime-hook"), {"path": "/a"}],
            "createRuntime": [nvidia_hook("/opt/nvidia-container-toolkit")],
            "createContainer": [{"path": "/usr/bin/nvidia-container-runtime-hook-not"}],
            "poststop": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]
        }),
    );
    let decision = plan_for(&mut spec).unwrap().unwrap();
    assert!(decision.request.is_empty());
    let absorbed: Vec<_> = decision
        .plan
        .absorbed_hooks
        .iter()
        .map(|hook| (hook.phase.as_str(), hook.path.as_path()))
        .collect();
    assert_eq!(
        absorbed,
        [
            ("prestart", Path::new("/usr/bin/nvidia-container-runtime-hook")),
            ("createRuntime", Path::new("/opt/nvidia-container-toolkit")),
        ]
    );
    let hooks = serde_json::to_value(spec.hooks()).unwrap();
    let expected = json!({
        "prestart": [{"path": "/a"}],
        "createContainer": [{"path": "/usr/bin/nvidia-container-runtime-hook-not"}],
        "poststop": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]
    });
    assert_eq!(hooks, expected);
    assert!(absorb::from_spec(&mut spec).is_empty());
}

/// AMD's runtime adds it to every container with a GPU; the program may not be there.
#[test]
fn the_hook_that_releases_a_tracked_gpu_is_taken_out() {
    let hook = |args: &[&str]| json!({"path": "/usr/local/bin/amd-ctk", "args": args});
    let mut spec = spec(
        &[],
        json!({"poststop": [
            hook(&["amd-ctk", "gpu-tracker", "release", "c1"]),
            hook(&["amd-ctk", "gpu-tracker", "status"]),
        ]}),
    );
    let absorbed = absorb::from_spec(&mut spec);
    let [one] = &absorbed[..] else { panic!("{absorbed:?}") };
    assert_eq!((one.hook.phase.as_str(), one.hook.args.len()), ("poststop", 3));
    assert_eq!(spec.hooks().as_ref().unwrap().poststop().as_ref().unwrap().len(), 1);
    let machine = Machine::new();
    let plan =
        resolve(&Request::default(), absorbed, &spec, &machine.settings(""), &machine.host());
    let plan = plan.unwrap();
    let [register] = &plan.registers[..] else { panic!("{:?}", plan.registers) };
    assert_eq!((register.vendor.as_str(), register.gpus.len()), ("amd", 0));
    assert_eq!(register.file, Path::new("/var/log/gpu-tracker.json"));
}

fn decide(env: &[&str]) -> (Decision, Machine) {
    let machine = Machine::new();
    let spec = spec(env, json!({}));
    let request = Request::read(&spec, None).unwrap();
    let plan = resolve(&request, vec![], &spec, &machine.settings(""), &machine.host()).unwrap();
    (Decision { request, plan, policy: None }, machine)
}

#[test]
fn the_table_says_what_was_asked_what_is_given_and_why() {
    let (decision, _machine) =
        decide(&["NVIDIA_VISIBLE_DEVICES=2,GPU-00000000-0000-0000-0000-000000000000"]);
    let table = explain::table(&decision, &[], Paint::OFF);
    for part in [
        "Request\n  nvidia  NVIDIA_VISIBLE_DEVICES=2,GPU-",
        "capabilities compute,utility",
        "GPUs (2)\n  2  NVIDIA A100-SXM4-40GB  0000:41:00.0  GPU-00000002-",
        "Device nodes (5): the device rules allow these and what the spec allows\n  /dev/nvidiactl         195:255  rwm  0666",
        "/dev/nvidia-uvm        511:0",
        "/dev/nvidia7           195:7",
        "GPU 2, asked for as 2",
        "{lib} (the image's directory of libraries), from /",
        "    libcuda.so.535.104.05                   compute; also libcuda.so.1, libcuda.so\n",
        "/usr/bin, from /",
        "    nvidia-smi               utility\n",
        "NVIDIA_VISIBLE_DEVICES=void",
        "/proc/driver/nvidia/params",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    assert_eq!(
        explain::table(
            &Decision { request: Request::default(), plan: Plan::default(), policy: None },
            &[],
            Paint::OFF
        ),
        explain::NOTHING
    );
}

#[test]
fn json_holds_the_request_and_the_whole_plan() {
    let (decision, _machine) = decide(&["NVIDIA_VISIBLE_DEVICES=none"]);
    let value: serde_json::Value =
        serde_json::from_str(&explain::json(&decision, &[]).unwrap()).unwrap();
    assert_eq!(value["request"][0]["devices"], json!(["none"]));
    assert_eq!(value["plan"]["grants"], json!([]));
    assert_eq!(value["plan"]["devices"][0]["destination"], json!("/dev/nvidiactl"));
    assert_eq!(value["plan"]["env"], json!([["NVIDIA_VISIBLE_DEVICES", "void"]]));
}

#[test]
fn what_an_image_wrote_cannot_steer_the_terminal() {
    let machine = Machine::new();
    let env = ["NVIDIA_VISIBLE_DEVICES=all,\u{1b}[2J"];
    let spec = spec(&env, json!({}));
    let request = Request::read(&spec, None).unwrap();
    let plan = resolve(&request, vec![], &spec, &machine.settings(""), &machine.host()).unwrap();
    let table = explain::table(&Decision { request, plan, policy: None }, &[], Paint::OFF);
    assert!(!table.contains('\u{1b}'), "{table}");
}
