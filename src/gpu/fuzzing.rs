//! Requests: what an image's environment, the annotations, mounts and hooks of a spec can say.

use oci_spec::runtime::{Hook, Spec};
use serde_json::json;

use super::compatibility::{self, Note};
use super::exclusive::{ANNOTATION, Exclusive, Policy};
use super::inventory::{Device, Part};
use super::pci::Address;
use super::plan::{Compatibility, Plan};
use super::request::{Request, Selection};
use super::{absorb, tables};
use crate::fuzzing::{Choices, Target, text};
use crate::host::Settings;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "selection", run: selection },
    Target { name: "request", run: request },
    Target { name: "hooks", run: hooks },
    Target { name: "pci_address", run: pci_address },
    Target { name: "cuda_note", run: cuda_note },
    Target { name: "exclusive", run: exclusive },
];

fn selection(data: &[u8]) {
    let list = text(data);
    let found = Selection::parse(list);
    let items: Vec<&str> = list.split(',').map(str::trim).collect();
    assert!(found.is_none() || !items.contains(&"void"), "void is not the end of it");
    let Some(found) = found else { return };
    let words = found.words();
    assert!(!words.is_empty());
    assert!(words.iter().all(|word| items.contains(&&**word)), "a word that nobody said");
    assert_eq!(Selection::parse(&words.join(",")).as_ref(), Some(&found), "read back differently");
    assert_eq!(Selection::parse(&format!("{list},{list}")), Some(found), "said twice is another");
}

/// Lines: `E` and a variable, `A` and an annotation, `M` and a mount, `P` for a privileged one.
fn spec(data: &[u8]) -> Spec {
    let (mut env, mut annotations, mut mounts) = (Vec::new(), serde_json::Map::new(), Vec::new());
    let mut bounding = Vec::new();
    for line in text(data).lines() {
        let mut letters = line.chars();
        let kind = letters.next();
        let rest = letters.as_str();
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        match kind {
            Some('A') => drop(annotations.insert(key.to_owned(), value.into())),
            Some('M') => mounts.push(json!({"source": key, "destination": value})),
            Some('P') => bounding = vec!["CAP_SYS_ADMIN"],
            _ => env.push(rest),
        }
    }
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env,
                    "capabilities": {"bounding": bounding}},
        "annotations": annotations,
        "mounts": mounts,
    });
    serde_json::from_value(spec).unwrap()
}

fn request(data: &[u8]) {
    let spec = spec(data);
    let config = "[nvidia]\naccept-nvidia-visible-devices-as-volume-mounts = true\n\
                  swarm-resource = \"DOCKER_RESOURCE_GPU\"\n";
    let settings =
        Settings::parse("/c.toml".as_ref(), config.to_owned(), &tables()).expect("settings");
    let before = spec.clone();
    let summary =
        |request: Request| -> Vec<_> { request.wishes().map(|wish| wish.summary()).collect() };
    let read = |settings| Request::read(&spec, settings).map(summary).map_err(|e| e.to_string());
    let found = read(Some(&settings));
    if let Err(error) = &found {
        assert!(!error.contains('\n'), "an error of two lines: {error}");
    }
    if !Request::needs_settings(&spec) {
        assert_eq!(read(None), found, "the settings mattered");
    }
    for summary in found.iter().flatten() {
        assert!(!summary.devices.is_empty());
    }
    assert_eq!(spec, before);
    // Whatever is asked for can be written down again; a variable more that nobody reads changes
    // nothing.
    let more = [data, b"\nEUNRELATED=1"].concat();
    let again = Request::read(&self::spec(&more), Some(&settings)).map(summary);
    assert_eq!(again.map_err(|error| error.to_string()), found);
}

/// A hook: its path and arguments, one a line.
fn hooks(data: &[u8]) {
    let mut lines = text(data).lines();
    let path = lines.next().unwrap_or_default();
    let hook = json!({"path": path, "args": lines.collect::<Vec<_>>()});
    let hook: Hook = serde_json::from_value(hook).unwrap();
    let phase = "createContainer".to_owned();
    let mut plan = Plan { hooks: vec![(phase, hook.clone())], ..Plan::default() };
    let absorbed = absorb::from_plan(&mut plan);
    assert_eq!(absorbed.len() + plan.hooks.len(), 1, "a hook is lost or does its work twice");
    for one in &absorbed {
        assert_eq!(one.hook.path, *hook.path());
        assert!(!one.substitute.instead().is_empty());
        assert!(
            path.rsplit('/').any(|name| name.starts_with("nvidia")),
            "{path:?} is none of ours"
        );
    }
}

fn pci_address(data: &[u8]) {
    let text = text(data);
    let Some(address) = Address::parse(text) else { return };
    assert!(address.device < 32 && address.function < 8);
    assert_eq!(Address::parse(&address.to_string()), Some(address));
    assert_eq!(Address::parse(&text.to_ascii_uppercase()), Some(address));
}

/// The versions of the host and of the image, one a line, then the note's section.
fn cuda_note(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let [host, cuda, image, section] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let note = Note::from_section(section);
    let (host, cuda, image) = (text(host), text(cuda), text(image));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let asked = Compatibility {
        directory: compatibility::DIRECTORY.into(),
        host_driver: some(host),
        host_cuda: some(cuda),
    };
    for note in [None, note.as_ref()] {
        if compatibility::is_wanted(&asked, image, note) {
            assert!(some(host).is_some() || some(cuda).is_some(), "compared with nothing");
            assert_ne!(host, image, "the same version is not newer");
        }
        let same = Compatibility { host_driver: some(image), ..asked.clone() };
        assert!(!compatibility::is_wanted(&same, image, note), "newer than itself");
    }
    let mut choices = Choices(section);
    let _ = Note::parse(choices.bytes());
}

/// The annotation, and behind its line the table of the configuration.
fn exclusive(data: &[u8]) {
    let (value, table) = text(data).split_once('\n').unwrap_or((text(data), ""));
    let spec = json!({"ociVersion": "1.2.0", "annotations": {ANNOTATION: value}});
    let asked = match Exclusive::read(&serde_json::from_value(spec).unwrap()) {
        Ok(asked) => asked,
        Err(error) => {
            let error = error.to_string();
            return assert!(!error.contains('\n'), "an error of two lines: {error}");
        }
    };
    let part = Part { name: "0:1".to_owned(), ..Part::default() };
    let device = Device {
        kind: "nvidia.com/gpu".into(),
        name: "0".to_owned(),
        uuid: Some("GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000".to_owned()),
        bus_id: Some("0000:65:00.0".to_owned()),
        parts: vec![part.clone()],
        ..Device::default()
    };
    let devices = [device.clone()];
    let covered =
        |exclusive: &Exclusive| [None, Some(&part)].map(|part| exclusive.covers(&device, part));
    if let Exclusive::These(names) = &asked {
        assert!(!names.is_empty());
        for name in names {
            let one = Exclusive::These(vec![name.clone()]);
            let is_stranger = one.strangers(&devices).next().is_some();
            assert_eq!(is_stranger, covered(&one) == [false; 2], "{name}");
        }
    }
    let table = format!("[gpu]\n{table}");
    let policy = Settings::parse("/c.toml".as_ref(), table, &tables())
        .map_err(|error| error.to_string())
        .and_then(|settings| Policy::read(&settings).map_err(|error| error.to_string()));
    match policy {
        Err(error) => assert!(!error.contains('\n'), "an error of two lines: {error}"),
        Ok(policy) => {
            assert!(policy.holders.is_absolute());
            let both = covered(&asked.clone().or(policy.exclusive.clone()));
            let (one, other) = (covered(&asked), covered(&policy.exclusive));
            assert_eq!(both, [one[0] || other[0], one[1] || other[1]]);
            let asked = serde_json::to_vec(&asked).expect("JSON");
            let again: Exclusive = serde_json::from_slice(&asked).expect("what was written");
            assert_eq!(serde_json::to_vec(&again).expect("JSON"), asked);
        }
    }
}
