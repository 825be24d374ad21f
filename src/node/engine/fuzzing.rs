//! Edits of engines' files: what one changes the other takes back, and nothing else changes.

use serde_json::{Value, json};

use super::places::Form;
use super::plan::{LineEnds, without};
use super::{
    Engine, Name, Ours, TextError, Wish, containerd, crio, docker, json, podman, template,
};
use crate::fuzzing::{Choices, Target, text};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "engine_json", run: engine_json },
    Target { name: "engine_toml", run: engine_toml },
    Target { name: "engine_template", run: engine_template },
    Target { name: "json_edits", run: json_edits },
];

const BINARY: &str = "/usr/local/bin/gpurun";

/// Pieces of which texts are made that mean something.
const JSON_PIECES: &[&str] = &[
    "{",
    "}",
    ",\n",
    ", ",
    "\n  ",
    "\"runtimes\": ",
    "\"gpurun\": ",
    "\"nvidia\": ",
    "\"default-runtime\": \"nvidia\"",
    "\"default-runtime\": \"gpurun\"",
    "\"default-runtime\": \"crun\"",
    "{\"path\": \"nvidia-container-runtime\", \"args\": []}",
    "{\"path\": \"/usr/local/bin/gpurun\"}",
    "{\n    \"path\": \"/opt/gpurun\"\n  }",
    "{}",
    "\"\\u0067purun\": ",
    "\"é\\\"}\": [1, {\"a\": \"]\"}]",
    "null",
    "\r\n\t",
    "\"debug\" : true",
];

const TOML_PIECES: &[&str] = &[
    "\n",
    "# a comment\n",
    "version = 2\n",
    "version = 3 # the third\n",
    "version = 1\n",
    "root = \"/r\"\n",
    "[plugins]\n",
    "[plugins.\"io.containerd.grpc.v1.cri\"]\n",
    "  [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n",
    "    default_runtime_name = \"runc\"\n",
    "    default_runtime_name = \"nvidia\" # mine\n",
    "      [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes]\n",
    "      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n",
    "      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n",
    "      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\n",
    "        runtime_type = \"io.containerd.runc.v2\"\n",
    "        runtime_type = \"io.containerd.kata.v2\"\n",
    "        SystemdCgroup = true\n",
    "        BinaryName = \"/usr/bin/nvidia-container-runtime\" # theirs\n",
    "        BinaryName = \"/opt/gpurun\"\n",
    "        options = {SystemdCgroup = true}\n",
    "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n",
    "[plugins.'io.containerd.cri.v1.runtime'.containerd]\n",
    "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]\n",
    "runc = { runtime_type = 'io.containerd.runc.v2', options = { SystemdCgroup = true } }\n",
    "[plugins.cri.containerd.runtimes.nvidia]\n",
    "[crio]\n",
    "[crio.runtime]\n",
    "default_runtime = \"crun\"\n",
    "[crio.runtime.runtimes.crun]\n",
    "[crio.runtime.runtimes.nvidia]\n",
    "runtime_path = \"/usr/bin/nvidia-container-runtime\"\n",
    "runtime_type = \"vm\"\n",
    "allowed_annotations = [\n  \"a\", # why\n]\n",
    "[engine]\n",
    "runtime = \"crun\" # mine\n",
    "runtime_supports_json = [\"crun\"]\n",
    "[engine.runtimes]\n",
    "nvidia = [\"/usr/bin/nvidia-container-runtime\"]\n",
    "runtimes = { crun = [\"/usr/bin/crun\"] }\n",
    "runtimes.crun = [\"/usr/bin/crun\"]\n",
    "engine.runtime = \"x\"\n",
    "[[plugins]]\n",
    "[z.\"é\"]\n",
    "x = \"\"\"\n[engine]\n\"\"\"\n",
    "imports = [\n\t\"/etc/x/*.toml\",\n]\n",
    "\r\n",
];

/// The bytes with a piece for each that is no ASCII.
fn expanded(data: &[u8], pieces: &[&str]) -> String {
    let mut text = String::new();
    for byte in data {
        match byte.checked_sub(0x80) {
            None => text.push(char::from(*byte)),
            Some(piece) => text += pieces[usize::from(piece) % pieces.len()],
        }
    }
    text
}

fn one_line(error: &TextError) {
    let error = error.to_string();
    assert!(!error.contains('\n') && !error.is_empty(), "not one line: {error:?}");
}

fn wish(choice: u8) -> Wish {
    let names = if choice & 1 == 0 { &["gpurun"][..] } else { &["gpurun", "nvidia"] };
    let names = names.iter().map(|name| Name::parse(name).expect("a name")).collect();
    Wish { names, binary: BINARY.into(), default: choice & 2 != 0 }
}

/// Configured once and twice, and taken back: what [`super::configure`] and [`super::unconfigure`]
/// do, without files.
fn there_and_back(
    engine: Engine,
    form: &Form,
    before: &str,
    wish: &Wish,
    add: impl Fn(&str) -> Result<String, TextError>,
) -> Option<String> {
    let it = Ours { binary: BINARY.into() };
    let add = |text: &str| {
        let ends = LineEnds::of(text);
        add(&ends.unix(text)).map(|text| ends.back(text))
    };
    let once = match add(before) {
        Ok(once) => once,
        Err(error) => {
            one_line(&error);
            return None;
        }
    };
    assert_eq!(add(&once).as_ref(), Ok(&once), "twice is not once: {before:?}");
    let ends = LineEnds::of(&once);
    let own = super::plan::names(engine, form, &ends.unix(&once), &it).expect("what was written");
    for name in &wish.names {
        assert!(own.iter().any(|own| own == name.as_str()), "no {} in {once}", name.as_str());
    }
    // What stood there before, which is what the backup holds.
    let backup = without(engine, form, before, None, &it).expect("it was read before");
    let left = without(engine, form, &once, backup.as_deref(), &it).expect("what was written");
    assert_eq!(left, backup, "not as it was: {once}");
    Some(once)
}

fn engine_json(data: &[u8]) {
    let mut choices = Choices(data);
    let wish = wish(choices.byte());
    let before = expanded(choices.0, JSON_PIECES);
    let add = |text: &str| docker::add(text, &wish);
    let Some(after) = there_and_back(Engine::Docker, &Form::Main, &before, &wish, add) else {
        return;
    };
    let [before, after] = [&before, &after].map(|text| {
        let mut value = json::parse(text).expect("JSON");
        value["runtimes"]["gpurun"] = Value::Null;
        value["runtimes"]["nvidia"] = Value::Null;
        value["default-runtime"] = Value::Null;
        value
    });
    assert_eq!(after, before, "a foreign key");
}

/// What makes a file's text ours.
type Edit<'a> = dyn Fn(&str) -> Result<String, TextError> + 'a;

fn engine_toml(data: &[u8]) {
    let mut choices = Choices(data);
    let wish = wish(choices.byte());
    let kind = choices.byte();
    let text = expanded(choices.0, TOML_PIECES);
    let (engine, add): (Engine, &Edit<'_>) = match kind % 4 {
        0 => (Engine::Crio, &|text| crio::add(text, &[], &wish)),
        1 => (Engine::Podman, &|text| podman::add(text, &[], &wish)),
        2 => (Engine::Containerd, &|text| containerd::add(text, &wish, containerd::Version::V2)),
        _ => (Engine::Containerd, &|text| containerd::add(text, &wish, containerd::Version::V3(3))),
    };
    let Some(after) = there_and_back(engine, &Form::Main, &text, &wish, add) else { return };
    // Every comment is still there.
    for line in text.lines().filter(|line| line.starts_with("# a comment")) {
        assert!(after.contains(line), "{line:?} is gone: {after}");
    }
    // A file beside it.
    let others = [text.clone()];
    let it = Ours { binary: BINARY.into() };
    let drop_in = match engine {
        Engine::Crio => crio::add("", &others, &wish),
        Engine::Podman => podman::add("", &others, &wish),
        _ => containerd::drop_in("", &text, &wish),
    };
    let drop_in = drop_in.expect("it was read before");
    let left = without(engine, &Form::DropIn(Vec::new()), &drop_in, None, &it);
    assert_eq!(left, Ok(None), "something is left of {drop_in}");
}

fn engine_template(data: &[u8]) {
    const PIECES: &[&str] = &[
        "# gpurun: begin\n",
        "# gpurun: end\n",
        "# gpurun: begin",
        "{{ template \"base\" . }}\n",
        "[plugins.'a'.containerd.runtimes.'gpurun']\n",
        "  SystemdCgroup = {{ .SystemdCgroup }}\n",
        "\n",
        "# mine",
        "\r\n",
    ];
    let mut choices = Choices(data);
    let wish = Wish { default: false, ..wish(choices.byte()) };
    let text = expanded(choices.0, PIECES);
    let form = Form::Template { made: "/m".into() };
    let add = |text: &str| template::add(Some(text), &wish, "p", &[]);
    // A block that somebody has emptied goes, and does not come back.
    let unix = LineEnds::of(&text).unix(&text).into_owned();
    let is_emptied = template::ours(&unix).is_empty() && template::has_block(&unix);
    if is_emptied {
        return;
    }
    there_and_back(Engine::K3s, &form, &text, &wish, add);
}

/// Two keys, one a line, and a text: edits of any member of any object.
fn json_edits(data: &[u8]) {
    let mut parts = text(data).splitn(3, '\n');
    let [outer, inner, text] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let before = match json::parse(text) {
        Ok(before) => before,
        Err(error) => return one_line(&error),
    };
    let value = json!({"a": [1, "b"]});
    for path in [&[outer][..], &[outer, inner]] {
        let pointer = |of: &Value| path.iter().try_fold(of.clone(), |of, key| of.get(key).cloned());
        match json::set(text, path, &value) {
            Ok(after) => {
                let mut wanted = before.clone();
                let place = path.iter().fold(&mut wanted, |of, key| &mut of[*key]);
                *place = value.clone();
                assert_eq!(json::parse(&after).as_ref(), Ok(&wanted), "{after:?}");
                let again = json::set(&after, path, &value).expect("it was set");
                assert_eq!(json::parse(&again).as_ref(), Ok(&wanted), "{again:?}");
                let copied = json::copy(text, path, &after).expect("two texts");
                let copied = pointer(&json::parse(&copied).expect("JSON"));
                assert_eq!(copied, pointer(&before).map(|_| value.clone()));
            }
            Err(error) => one_line(&error),
        }
        let mut removed = json::remove(text, path).expect("it was read before");
        // Of several with this key one goes at a time.
        while pointer(&json::parse(&removed).expect("JSON")).is_some() {
            let next = json::remove(&removed, path).expect("JSON");
            assert!(next.len() < removed.len());
            removed = next;
        }
        let mut wanted = before.clone();
        let (last, way) = path.split_last().expect("a key");
        let parent = way.iter().try_fold(&mut wanted, |of, key| of.get_mut(*key));
        if let Some(Value::Object(parent)) = parent {
            parent.remove(*last);
        }
        let is_same = json::parse(&removed).as_ref() == Ok(&wanted);
        // Where an object is there twice, the one before may come to light.
        assert!(is_same || text.matches(':').count() > 1, "{removed:?}");
    }
}
