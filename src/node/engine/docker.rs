//! `daemon.json`: [dockerd's options](https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file).

use serde_json::{Value, json};

use super::{Ours, TextError, Wish, json};

const RUNTIMES: &str = "runtimes";
const DEFAULT: &str = "default-runtime";

/// The text with gpurun among the runtimes.
///
/// # Errors
/// The text is not JSON, or a name is Docker's own.
pub fn add(text: &str, wish: &Wish) -> Result<String, TextError> {
    let mut text = text.to_owned();
    for name in &wish.names {
        if name.as_str() == "runc" {
            let reason = "docker keeps the name runc for its own runtime: choose another";
            return Err(TextError::Refused(reason.to_owned()));
        }
        let entry = json!({ "path": wish.binary() });
        if json::parse(&text)?[RUNTIMES][name.as_str()] != entry {
            text = json::set(&text, &[RUNTIMES, name.as_str()], &entry)?;
        }
    }
    if let (true, Some(name)) = (wish.default, wish.names.first())
        && json::parse(&text)?[DEFAULT] != name.as_str()
    {
        text = json::set(&text, &[DEFAULT], &Value::from(name.as_str()))?;
    }
    Ok(text)
}

/// The names under which the text has gpurun.
///
/// # Errors
/// The text is not JSON.
pub fn ours(text: &str, ours: &Ours) -> Result<Vec<String>, TextError> {
    let value = json::parse(text)?;
    let runtimes = value[RUNTIMES].as_object().into_iter().flatten();
    let found = runtimes.filter(|(_, entry)| entry["path"].as_str().is_some_and(|p| ours.is(p)));
    Ok(found.map(|(name, _)| name.clone()).collect())
}

/// The text without gpurun: its names are what they were in the original text, or gone. `None`:
/// nothing is left of a file that was not there before.
///
/// # Errors
/// A text is not JSON.
pub fn remove(text: &str, original: Option<&str>, it: &Ours) -> Result<Option<String>, TextError> {
    let before = json::parse(original.unwrap_or_default())?;
    let mut out = text.to_owned();
    let names = ours(text, it)?;
    for name in &names {
        let path = [RUNTIMES, name.as_str()];
        out = match before[RUNTIMES].get(name) {
            Some(_) => json::copy(&out, &path, original.unwrap_or_default())?,
            None => json::remove(&out, &path)?,
        };
    }
    let is_default = |value: &Value| names.iter().any(|name| value[DEFAULT] == name.as_str());
    if is_default(&json::parse(text)?) {
        out = match before.get(DEFAULT) {
            Some(_) => json::copy(&out, &[DEFAULT], original.unwrap_or_default())?,
            None => json::remove(&out, &[DEFAULT])?,
        };
    }
    let empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    if empty(&json::parse(&out)?[RUNTIMES]) && before.get(RUNTIMES).is_none() {
        out = json::remove(&out, &[RUNTIMES])?;
    }
    let after = json::parse(&out)?;
    // JSON has no comments: what says the same may as well look the same.
    match original {
        Some(original) if after == before => Ok(Some(original.to_owned())),
        None if empty(&after) => Ok(None),
        _ => Ok(Some(out)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Name;
    use super::*;

    fn wish(names: &[&str], default: bool) -> Wish {
        let names = names.iter().map(|name| Name::parse(name).unwrap()).collect();
        Wish { names, binary: "/usr/local/bin/gpurun".into(), default }
    }

    fn it() -> Ours {
        Ours { binary: "/usr/local/bin/gpurun".into() }
    }

    const TOOLKIT: &str = r#"{
    "default-runtime": "nvidia",
    "exec-opts": ["native.cgroupdriver=systemd"],
    "features": {"cdi": true},
    "runtimes": {
        "nvidia": {
            "args": [],
            "path": "nvidia-container-runtime"
        }
    }
}
"#;

    #[test]
    fn names_of_another_toolkit_are_taken_over_and_given_back() {
        let text = add(TOOLKIT, &wish(&["gpurun", "nvidia"], true)).unwrap();
        let value = json::parse(&text).unwrap();
        assert_eq!(value["default-runtime"], "gpurun");
        assert_eq!(value["runtimes"]["nvidia"], json!({"path": "/usr/local/bin/gpurun"}));
        assert!(text.contains("\"exec-opts\": [\"native.cgroupdriver=systemd\"],\n"), "{text}");
        assert_eq!(add(&text, &wish(&["gpurun", "nvidia"], true)).unwrap(), text);
        assert_eq!(remove(&text, Some(TOOLKIT), &it()).unwrap().as_deref(), Some(TOOLKIT));
        // What was edited meanwhile stays.
        let edited = text.replace("\"cdi\": true", "\"cdi\": false");
        let back = remove(&edited, Some(TOOLKIT), &it()).unwrap().unwrap();
        assert_eq!(back.replace("\"cdi\": false", "\"cdi\": true"), TOOLKIT);
    }

    #[test]
    fn a_file_of_our_own_goes_away_again() {
        let text = add("", &wish(&["gpurun"], false)).unwrap();
        let expected = "{\n  \"runtimes\": {\n    \"gpurun\": {\n      \
                        \"path\": \"/usr/local/bin/gpurun\"\n    }\n  }\n}\n";
        assert_eq!(text, expected);
        assert_eq!(remove(&text, None, &it()).unwrap(), None);
        let more = json::set(&text, &["debug"], &json!(true)).unwrap();
        let left = remove(&more, None, &it()).unwrap().unwrap();
        assert_eq!(json::parse(&left).unwrap(), json!({"debug": true}));
    }

    #[test]
    fn a_default_that_is_someone_elses_stays() {
        let text = add("{}", &wish(&["gpurun"], true)).unwrap();
        let text = text.replace("\"default-runtime\": \"gpurun\"", "\"default-runtime\": \"crun\"");
        let left = remove(&text, Some("{}"), &it()).unwrap().unwrap();
        assert_eq!(json::parse(&left).unwrap(), json!({"default-runtime": "crun"}));
    }

    #[test]
    fn dockers_own_name_is_refused() {
        let error = add("{}", &wish(&["runc"], false)).unwrap_err();
        assert!(error.to_string().contains("runc"), "{error}");
        let error = add("{\"runtimes\": []}", &wish(&["gpurun"], false)).unwrap_err();
        assert_eq!(error.to_string(), "runtimes is not an object");
    }
}
