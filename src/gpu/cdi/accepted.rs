//! Which annotations with CDI names count, and what becomes of the others.

use super::applied::Given;
use super::{Config, QualifiedName, Registry, SECTION, annotations};
use crate::gpu::authors;
use crate::gpu::error::GpuError;
use crate::gpu::plan::Plan;
use crate::gpu::pod::Pod;
use crate::gpu::request::Asked;
use crate::gpu::vendor::{Summary, Wish};
use crate::host::config::Section;
use crate::host::{ConfigError, Host, Settings};

/// The key.
const KEY: &str = "accept-cdi-annotations";

/// Whose annotations count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accepted {
    /// Those of engines that hand on none of an image or of a pod's author.
    #[default]
    Auto,
    /// Everyone's.
    Always,
    /// Nobody's.
    Never,
}

impl Accepted {
    /// Reads the key out of its table.
    ///
    /// # Errors
    /// Another word.
    pub fn read(section: &mut Section<'_>) -> Result<Self, ConfigError> {
        match section.string(KEY)? {
            None | Some("auto") => Ok(Self::Auto),
            Some("always") => Ok(Self::Always),
            Some("never") => Ok(Self::Never),
            Some(_) => Err(section.reject(KEY, "auto, always or never")),
        }
    }

    /// Why the annotations of a container do not count. `None`: they do.
    fn refusal(self, asked: &Asked<'_>) -> Option<String> {
        let table = crate::gpu::exclusive::SECTION;
        let are_anyones = || authors::are_anyones(asked.annotations().map(|(key, _)| key));
        match self {
            _ if Pod::of(asked).is_some_and(|pod| pod.is_sandbox) => {
                Some("a pod's sandbox needs no GPU".to_owned())
            }
            Self::Never => Some(format!("{KEY} of [{table}] is never")),
            Self::Auto if are_anyones() => Some(format!(
                "an image or a pod's author may have written them, and podman and CRI-O give CDI \
                 devices themselves; {KEY} of [{table}] decides"
            )),
            Self::Auto | Self::Always => None,
        }
    }
}

/// The annotations of a container whose keys begin so.
#[derive(Debug)]
pub struct Annotations<'a> {
    found: Vec<(&'a str, &'a str)>,
    refusal: Option<String>,
}

impl<'a> Annotations<'a> {
    /// Finds them.
    pub fn of(asked: &Asked<'a>, prefixes: &[String], accepted: Accepted) -> Self {
        let has_prefix = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        let found: Vec<_> = asked.annotations().filter(|(key, _)| has_prefix(key)).collect();
        let refusal = if found.is_empty() { None } else { accepted.refusal(asked) };
        Self { found, refusal }
    }

    /// The names in those that count; empty: there are none.
    ///
    /// # Errors
    /// A bad name.
    pub fn names(&self) -> Result<Vec<QualifiedName>, GpuError> {
        match self.refusal {
            Some(_) => Ok(Vec::new()),
            None => annotations::names(self.found.iter().copied()).map_err(GpuError::Annotation),
        }
    }

    /// Those that do not count, for the log.
    pub fn ignored(mut self, asked: &Asked<'_>) -> Option<Ignored> {
        let reason = self.refusal?;
        self.found.sort_unstable();
        let keys: Vec<&str> = self.found.iter().map(|(key, _)| *key).collect();
        let items = self.found.iter().flat_map(|(_, value)| value.split(','));
        Some(Ignored {
            source: format!("annotations {}", keys.join(", ")),
            written: items.map(str::to_owned).collect(),
            given: Given::of(asked),
            reason,
        })
    }
}

/// Annotations that do not count.
#[derive(Debug)]
pub struct Ignored {
    source: String,
    written: Vec<String>,
    given: Given,
    reason: String,
}

impl Ignored {
    /// Whether the engine has given all that is named: then nothing is missing.
    fn is_given(&self, settings: &Settings) -> Result<bool, GpuError> {
        let names = self.written.iter().map(|name| QualifiedName::parse(name));
        let Ok(names) = names.collect::<Result<Vec<_>, _>>() else { return Ok(false) };
        let registry = Registry::read(&Config::read(settings)?.dirs)?;
        let resolved = registry.resolve(&names);
        Ok(resolved.is_ok_and(|edits| self.given.has(&edits)))
    }
}

impl Wish for Ignored {
    fn summary(&self) -> Summary {
        Summary {
            vendor: SECTION.into(),
            source: self.source.clone(),
            devices: self.written.clone(),
            capabilities: Vec::new(),
        }
    }

    fn resolve(&self, settings: &Settings, _host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        let line = format!("{}: ignored, because {}", self.source, self.reason);
        let to = if self.is_given(settings)? { &mut plan.remarks } else { &mut plan.notes };
        to.push(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::request::Request;
    use crate::gpu::{resolve, tables};
    use crate::host::testing::Scratch;

    /// The sources of the wishes, and what the log says.
    fn read(lines: &str, annotations: &[(&str, &str)], env: &[&str]) -> (Vec<String>, String) {
        let files = Scratch::new();
        ["proc", "sys", "dev", "cdi"].iter().for_each(|name| files.directory(name));
        let at = |name: &str| files.path().join(name);
        files.write(
            "cdi/x.json",
            r#"{"cdiVersion": "0.6.0", "kind": "x.com/gpu",
                "devices": [{"name": "0", "containerEdits": {"env": ["X=0"]}}]}"#,
        );
        let text = format!("{lines}\n[cdi]\nspec-dirs = [{:?}]\n", at("cdi"));
        let settings = Settings::parse("/c.toml".as_ref(), text, &tables()).unwrap();
        let map: serde_json::Map<_, _> =
            annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": map,
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
        }))
        .unwrap();
        let request = Request::read(&spec, Some(&settings)).unwrap();
        let sources = request.wishes().map(|wish| wish.summary().source).collect();
        let host = Host::at(at("proc"), at("sys"), at("dev")).unwrap();
        let plan = resolve(&request, vec![], &spec, &settings, &host).unwrap();
        assert_eq!(plan.env.iter().any(|(name, _)| name == "X"), sources == ["annotations"]);
        (sources, plan.notes.join("\n"))
    }

    const NAME: (&str, &str) = ("cdi.k8s.io/evil", "x.com/gpu=0");

    #[test]
    fn annotations_of_podman_and_crio_are_not_counted_unless_the_configuration_says_so() {
        let always = "[gpu]\naccept-cdi-annotations = \"always\"";
        let never = "[gpu]\naccept-cdi-annotations = \"never\"";
        let sandbox = ("io.kubernetes.cri.container-type", "sandbox");
        for (lines, mark, counts) in [
            ("", None, true),
            (never, None, false),
            ("", Some(("io.kubernetes.cri.container-type", "container")), true),
            ("", Some(("io.container.manager", "libpod")), false),
            // An image's own word.
            ("", Some(("io.container.manager", "containerd")), false),
            ("", Some(("io.kubernetes.cri-o.ContainerType", "container")), false),
            (always, Some(("io.container.manager", "libpod")), true),
            ("", Some(sandbox), false),
            (always, Some(sandbox), false),
        ] {
            let annotations: Vec<_> = [NAME].into_iter().chain(mark).collect();
            let (sources, said) = read(lines, &annotations, &[]);
            assert_eq!(said.is_empty(), counts, "{lines} {mark:?}: {said}");
            let expected = if counts { "annotations" } else { "annotations cdi.k8s.io/evil" };
            assert_eq!(sources, [expected], "{lines} {mark:?}");
            let names_key = said.contains("accept-cdi-annotations of [gpu]");
            assert_eq!(names_key, !counts && mark != Some(sandbox), "{said}");
        }
    }

    #[test]
    fn what_is_ignored_need_not_be_right_and_what_the_engine_gave_is_no_warning() {
        let podman = ("io.container.manager", "libpod");
        let (_, said) = read("", &[("cdi.k8s.io/evil", "\u{1b} no name"), podman], &[]);
        assert!(said.contains("cdi.k8s.io/evil: ignored"), "{said}");
        let (_, said) = read("", &[NAME, podman], &["X=0"]);
        assert_eq!(said, "");
    }

    #[test]
    fn variables_count_beside_ignored_annotations_and_not_beside_names_that_were_applied() {
        let podman = ("io.container.manager", "libpod");
        let (sources, _) = read("", &[NAME, podman], &["HABANA_VISIBLE_DEVICES="]);
        assert_eq!(sources.len(), 1);
        let applied = ("cdi.k8s.io/x", "nvidia.com/gpu=0");
        let env = ["NVIDIA_VISIBLE_DEVICES=void", "AMD_VISIBLE_DEVICES=all"];
        assert_eq!(read("", &[applied], &env), (vec![], String::new()));
    }
}
