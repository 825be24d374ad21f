use super::super::Name;
use super::*;

fn wish(names: &[&str], default: bool) -> Wish {
    let names = names.iter().map(|name| Name::parse(name).unwrap()).collect();
    Wish { names, binary: "/usr/local/bin/gpurun".into(), default }
}

fn it() -> Ours {
    Ours { binary: "/usr/local/bin/gpurun".into() }
}

/// As a distribution or kubeadm's users have it.
const SYSTEMD: &str = r#"# ours, do not touch
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.k8s.io/pause:3.9" # pinned
    [plugins."io.containerd.grpc.v1.cri".containerd]
      snapshotter = "overlayfs"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        # the default
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          # a comment in it
          runtime_type = "io.containerd.runc.v2"
          pod_annotations = ["a.b/*"]
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = true
            Root = "/run/containerd/runc"

[metrics]
  address = "127.0.0.1:1338"
# the end
"#;

#[test]
fn headers_have_their_own_quotes_again() {
    let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nx = 1\n\
                [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes]\n";
    let added = add(text, &wish(&["gpurun"], true), Version::V2).unwrap();
    assert_eq!(remove(&added, Some(text), &it()).unwrap().as_deref(), Some(text));
}

#[test]
fn options_of_the_default_runtime_are_inherited_and_the_rest_stays_as_it_is() {
    let text = add(SYSTEMD, &wish(&["gpurun"], false), Version::V2).unwrap();
    let added = r#"        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gpurun]
          runtime_type = "io.containerd.runc.v2"
          pod_annotations = ["a.b/*"]
          container_annotations = ["cdi.k8s.io/*"]
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gpurun.options]
            SystemdCgroup = true
            Root = "/run/containerd/runc"
            BinaryName = "/usr/local/bin/gpurun"
"#;
    let at = SYSTEMD.find("\n[metrics]").unwrap();
    let expected = format!("{}{added}{}", &SYSTEMD[..at], &SYSTEMD[at..]);
    assert_eq!(text, expected);
    assert_eq!(add(&text, &wish(&["gpurun"], false), Version::V2).unwrap(), text);
    assert_eq!(remove(&text, Some(SYSTEMD), &it()).unwrap().as_deref(), Some(SYSTEMD));
    assert_eq!(remove(&text, None, &it()).unwrap().as_deref(), Some(SYSTEMD));
}

#[test]
fn every_layout_gets_the_names_and_the_default_and_is_put_back_byte_by_byte() {
    for text in [
        SYSTEMD,
        "version = 2\n",
        "version = 3\n",
        "version = 4\n[grpc]\naddress = \"/run/x\"\n",
        "# nothing but a comment\n",
        "disabled_plugins = [\"cri\"]\n",
        "[plugins.cri.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\n\
         runtimes = { runc = { runtime_type = 'io.containerd.runc.v2', options = { SystemdCgroup = true } } }\n",
        "version = 3\nplugins.'io.containerd.cri.v1.runtime'.containerd.default_runtime_name = 'runc'\n",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n\
         \x20 default_runtime_name = 'kata' # ours\n\
         \x20 [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\n\
         \x20   runtime_type = 'io.containerd.kata.v2'\n",
    ] {
        let wish = wish(&["gpurun", "nvidia"], true);
        let done = add(text, &wish, Version::V2).unwrap();
        let document = toml::parse(&done).unwrap();
        let version = Version::of(&document).unwrap();
        assert_eq!(names(&document, version, &it()), ["gpurun", "nvidia"], "{done}");
        // containerd 1 forgets its own runc with the first runtime that a file names.
        assert!(runtimes(&done).unwrap().iter().any(|name| name == "runc" || name == "kata"));
        let section = version.section();
        let default = toml::text(&document, &[&section[..], &[DEFAULT]].concat());
        assert_eq!(default, Some("gpurun"), "{done}");
        let kind = [&section[..], &[RUNTIMES, "nvidia", "runtime_type"]].concat();
        assert_eq!(toml::text(&document, &kind), Some(SHIM), "{done}");
        assert_eq!(add(&done, &wish, Version::V2).unwrap(), done, "a second time");
        assert_eq!(remove(&done, Some(text), &it()).unwrap().as_deref(), Some(text), "{done}");
    }
}

#[test]
fn a_runtime_that_another_toolkit_configured_is_taken_over_and_given_back() {
    let text = SYSTEMD.replace(
        "\n[metrics]",
        r#"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          runtime_type = "io.containerd.runc.v2"
          container_annotations = ["cdi.k8s.io/*"]
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime" # the toolkit's
            SystemdCgroup = true

[metrics]"#,
    );
    let done = add(&text, &wish(&["nvidia"], false), Version::V2).unwrap();
    let old = "\"/usr/local/nvidia/toolkit/nvidia-container-runtime\"";
    assert_eq!(done, text.replace(old, "\"/usr/local/bin/gpurun\""));
    assert_eq!(remove(&done, Some(&text), &it()).unwrap(), Some(text.clone()));
    let edited = done.replace("pause:3.9", "pause:3.10").replace("# the end", "# the very end");
    let expected = text.replace("pause:3.9", "pause:3.10").replace("# the end", "# the very end");
    assert_eq!(remove(&edited, Some(&text), &it()).unwrap(), Some(expected));
}

#[test]
fn an_absent_file_becomes_one_for_the_containerd_that_is_there_and_goes_again() {
    let text = add("", &wish(&["gpurun"], false), Version::V3(3)).unwrap();
    let expected = r#"version = 3

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.gpurun]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.gpurun.options]
BinaryName = "/usr/local/bin/gpurun"
"#;
    assert_eq!(text, expected);
    assert_eq!(remove(&text, None, &it()).unwrap(), None);
}

#[test]
fn a_drop_in_adds_only_gpurun_with_the_main_files_options() {
    let main =
        SYSTEMD.replace("version = 2", "version = 3").replace(".grpc.v1.cri", ".cri.v1.runtime");
    let text = drop_in("", &main, &wish(&["gpurun"], true)).unwrap();
    let document = toml::parse(&text).unwrap();
    let section = Version::V3(3).section();
    let options = [&section[..], &[RUNTIMES, "gpurun", OPTIONS]].concat();
    let options = toml::get(&document, &options).unwrap().as_table().unwrap();
    assert_eq!(options.get("SystemdCgroup").and_then(Item::as_bool), Some(true), "{text}");
    assert!(!text.contains("sandbox_image") && !text.contains("runtimes.runc"), "{text}");
    assert_eq!(drop_in(&text, &main, &wish(&["gpurun"], true)).unwrap(), text);
    assert_eq!(remove(&text, None, &it()).unwrap(), None);
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let wish = wish(&["gpurun"], true);
    let error = add("version = 2\n[plugins\n", &wish, Version::V2).unwrap_err();
    assert!(error.to_string().starts_with("line 2: "), "{error}");
    let error = add("version = 2\nplugins = 3\n", &wish, Version::V2).unwrap_err();
    assert_eq!(error.to_string(), "plugins is not a table");
}

#[test]
fn imports_and_a_plugin_that_is_turned_off_are_seen() {
    let text = "imports = ['/etc/containerd/conf.d/*.toml']\ndisabled_plugins = ['cri']\n";
    assert_eq!(imports(text).unwrap(), ["/etc/containerd/conf.d/*.toml"]);
    assert!(is_disabled(text).unwrap() && !is_disabled(SYSTEMD).unwrap());
    assert!(has_plugin(SYSTEMD).unwrap() && !has_plugin(text).unwrap());
    assert_eq!(runtimes(SYSTEMD).unwrap(), ["runc"]);
}

#[test]
fn cdi_annotations_are_passed_on_where_containerd_does_not_resolve_them() {
    let cri = "[plugins.'io.containerd.grpc.v1.cri']\n";
    for (text, expected) in [
        ("version = 2\n".to_owned(), true),
        (format!("version = 2\n{cri}enable_cdi = false\n"), true),
        (format!("version = 2\n{cri}enable_cdi = true\n"), false),
        ("version = 3\n".to_owned(), false),
    ] {
        let done = add(&text, &wish(&["gpurun"], false), Version::V2).unwrap();
        assert_eq!(done.contains("container_annotations = [\"cdi.k8s.io/*\"]"), expected, "{done}");
    }
    let own = SYSTEMD.replace("pod_annotations = [", "container_annotations = [");
    let done = add(&own, &wish(&["gpurun"], false), Version::V2).unwrap();
    assert!(done.contains("container_annotations = [\"a.b/*\", \"cdi.k8s.io/*\"]"), "{done}");
}
