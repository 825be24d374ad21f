//! What the package brings must be what shells, man and gpurun itself can read.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use gpurun::gpu;
use gpurun::host::Settings;
use manual::{completions, configuration, pages};

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).output().is_ok();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

fn file(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join(name);
    let all = completions::all();
    let (_, content) = all.iter().find(|(known, _)| *known == name).expect("completions");
    std::fs::write(&path, content).expect("file");
    (directory, path)
}

/// What bash offers for the words of a command line, the last of which is being written.
fn bash(completions: &Path, words: &[&str]) -> Vec<String> {
    let script = format!(
        "set -eu; source {}; COMP_WORDS=({}); COMP_CWORD={}; COMPREPLY=(); \
         _gpurun gpurun {:?} {:?}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        completions.display(),
        words.join(" "),
        words.len() - 1,
        words.last().expect("words"),
        words.iter().rev().nth(1).expect("two words"),
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_their_options() {
    let (_directory, path) = file("gpurun");
    let checked = Command::new("bash").arg("-n").arg(&path).output().expect("bash");
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    assert_eq!(bash(&path, &["gpurun", "expl"]), ["explain"]);
    assert_eq!(bash(&path, &["gpurun", "doctor", "--js"]), ["--json"]);
    assert!(bash(&path, &["gpurun", "--log-format", "\"\""]).contains(&"json".to_owned()));
    assert!(bash(&path, &["gpurun", "cdi", "l"]).contains(&"list".to_owned()));
}

#[test]
fn zsh_and_fish_can_read_theirs() {
    for (shell, name) in [("zsh", "_gpurun"), ("fish", "gpurun.fish")] {
        if installed(shell) {
            let (_directory, path) = file(name);
            let checked = Command::new(shell).arg("-n").arg(&path).output().expect("shell");
            assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
        }
    }
}

#[test]
fn every_command_has_a_page_that_renders_without_a_warning() {
    let pages = pages::all().expect("pages");
    let has = |name: &str| pages.iter().any(|(known, _)| known == name);
    for name in ["gpurun.8", "gpurun-create.8", "gpurun-doctor.8", "gpurun-cdi-list.8"] {
        assert!(has(name), "no {name}: {:?}", pages.iter().map(|(n, _)| n).collect::<Vec<_>>());
    }
    if !installed("groff") {
        return;
    }
    for (name, page) in &pages {
        let mut groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-rCHECKSTYLE=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("groff");
        groff.stdin.take().expect("stdin").write_all(page).expect("page");
        let output = groff.wait_with_output().expect("groff");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        assert!(output.stdout.len() > 200, "{name} is empty");
    }
}

#[test]
fn the_example_configuration_is_accepted_as_it_is_and_with_every_key_in_force() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = configuration::example(&std::fs::read_to_string(page).expect("page"));
    let text = text.expect("example");
    let in_force: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some("devices = []") => "devices = [\"/dev/mychip{}\"]\n".to_owned(),
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(in_force.contains("\ndriver-root = \"/\"\n"), "{in_force}");
    for text in [text, in_force] {
        let path = Path::new("/example");
        let settings = Settings::parse(path, text, &gpu::tables()).expect("settings");
        gpu::check_settings(&settings).expect("every table");
    }
}
