//! Whether the variables of a container count.
//!
//! Variables come from whoever starts the container or from its image, and nobody can tell. So the
//! administrator decides whether they count for containers without privilege. In Kubernetes one
//! value is likely to be the image's: images that want every device say `all`, so that where
//! gpurun is the default runtime a pod that requested no device would get every one of its node.
//! There, `all` is not counted; ids and `none` are, because images do not have them and device
//! plugins do.

use super::error::GpuError;
use super::exclusive::Policy;
use super::plan::Plan;
use super::pod::Pod;
use super::request::Asked;
use super::vendor::{Summary, Wish};
use crate::host::config::Section;
use crate::host::{ConfigError, Host, Settings};

/// The key that lists the namespaces whose containers may ask for `all`.
pub const NAMESPACES_KEY: &str = "kubernetes-trusted-namespaces";

/// Stands for every namespace.
const EVERY: &str = "*";

/// What decides about a container's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether the container is privileged.
    pub privileged: bool,
    /// The pod of Kubernetes that the container belongs to.
    pub pod: Option<Pod>,
}

impl Standing {
    /// That of a container.
    pub fn of(asked: &Asked<'_>) -> Self {
        Self { privileged: asked.is_privileged(), pod: Pod::of(asked) }
    }
}

/// What tells one table's terms from another's.
#[derive(Debug, PartialEq, Eq)]
pub struct Origin {
    /// The table of the configuration.
    pub table: &'static str,
    /// The key that says whether variables count without privilege.
    pub unprivileged_key: &'static str,
    /// The namespaces that are trusted unless the configuration lists others.
    pub namespaces: &'static [&'static str],
    /// How a pod gets a device otherwise.
    pub instead: &'static str,
}

/// Of every vendor that has no terms of its own. The namespaces are those in which the vendors'
/// own pods usually are.
pub static COMMON: Origin = Origin {
    table: super::exclusive::SECTION,
    unprivileged_key: "accept-visible-devices-envvar-when-unprivileged",
    namespaces: &["kube-system", "kube-amd-gpu", "habana-system", "habana-ai-operator"],
    instead: "a pod gets devices by requesting them of a device plugin",
};

/// On what terms the variables of containers count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Whether those of a container without `CAP_SYS_ADMIN` do.
    pub accept_unprivileged: bool,
    /// The namespaces of Kubernetes whose containers may ask for all devices.
    trusted_namespaces: Vec<String>,
    origin: &'static Origin,
}

impl Terms {
    /// Reads them out of a table.
    ///
    /// # Errors
    /// A value of the wrong type.
    pub fn read(section: &mut Section<'_>, origin: &'static Origin) -> Result<Self, ConfigError> {
        let namespaces = section.strings(NAMESPACES_KEY)?;
        let namespaces = namespaces.unwrap_or_else(|| origin.namespaces.to_vec());
        Ok(Self {
            accept_unprivileged: section.boolean(origin.unprivileged_key)?.unwrap_or(true),
            trusted_namespaces: namespaces.into_iter().map(str::to_owned).collect(),
            origin,
        })
    }

    /// Whether a container's word is the administrator's: it is privileged or its namespace trusted.
    #[must_use]
    pub fn trust(&self, standing: &Standing) -> bool {
        let trusted = |pod: &Pod| {
            let is_it = |known: &String| known == EVERY || Some(known) == pod.namespace.as_ref();
            self.trusted_namespaces.iter().any(is_it)
        };
        standing.privileged || standing.pod.as_ref().is_some_and(trusted)
    }

    /// Why variables do not count because of what the container is. `None`: they do.
    #[must_use]
    pub fn distrust(&self, standing: &Standing) -> Option<String> {
        let key = self.origin.unprivileged_key;
        (!standing.privileged && !self.accept_unprivileged)
            .then(|| format!("ignored, because the container is not privileged and {key} is false"))
    }

    /// Why a request by variables does not count, for the log. `None`: it does.
    #[must_use]
    pub fn refusal(&self, source: &str, standing: &Standing, is_all: bool) -> Option<String> {
        if let Some(reason) = self.distrust(standing) {
            return Some(format!("{source}: {reason}"));
        }
        let pod = standing.pod.as_ref()?;
        if pod.is_sandbox {
            return Some(format!("{source}: ignored, because a pod's sandbox needs no GPU"));
        }
        if !is_all || self.trust(standing) {
            return None;
        }
        let namespace = pod.namespace.as_deref();
        let place = namespace
            .map_or("an unknown namespace".to_owned(), |name| format!("the namespace {name:?}"));
        let Origin { table, instead, .. } = self.origin;
        Some(format!(
            "{source}: ignored, because it may be the image's own and this is a pod in {place}, \
             which is not among {NAMESPACES_KEY} of [{table}]; {instead}"
        ))
    }
}

/// A wish found in variables, which counts on the terms that most vendors share.
#[derive(Debug)]
pub struct ByVariable {
    wish: Box<dyn Wish>,
    standing: Standing,
    is_all: bool,
}

impl ByVariable {
    /// The wish of a container. `is_all`: it is for every device of the machine.
    pub fn boxed(wish: impl Wish + 'static, is_all: bool, asked: &Asked<'_>) -> Box<dyn Wish> {
        Box::new(Self { wish: Box::new(wish), standing: Standing::of(asked), is_all })
    }
}

impl Wish for ByVariable {
    fn summary(&self) -> Summary {
        self.wish.summary()
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        let terms = Policy::read(settings)?.variables;
        match terms.refusal(&self.wish.summary().source, &self.standing, self.is_all) {
            Some(reason) => plan.notes.push(reason),
            None => self.wish.resolve(settings, host, plan)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;
    use oci_spec::runtime::Spec;

    /// A wish that leaves a remark where it counts.
    #[derive(Debug)]
    struct Told;

    impl Wish for Told {
        fn summary(&self) -> Summary {
            Summary {
                vendor: "x".into(),
                source: "X_VISIBLE_DEVICES=all".to_owned(),
                devices: Vec::new(),
                capabilities: Vec::new(),
            }
        }

        fn resolve(&self, _: &Settings, _: &Host, plan: &mut Plan) -> Result<(), GpuError> {
            plan.remarks.push("counted".to_owned());
            Ok(())
        }
    }

    /// What the log says of the wish of such a container; empty: it counts.
    fn said(lines: &str, pod: Option<(&str, &str)>, is_privileged: bool, is_all: bool) -> String {
        let annotations = pod.map(|(kind, namespace)| {
            serde_json::json!({
                "io.kubernetes.cri.container-type": kind,
                "io.kubernetes.cri.sandbox-namespace": namespace,
            })
        });
        let bounding = if is_privileged { &["CAP_SYS_ADMIN"][..] } else { &[] };
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": annotations,
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
                        "capabilities": {"bounding": bounding}}
        }))
        .unwrap();
        let text = format!("[gpu]\n{lines}\n");
        let settings = Settings::parse("/c.toml".as_ref(), text, &crate::gpu::tables()).unwrap();
        let files = Scratch::new();
        ["proc", "sys", "dev"].iter().for_each(|name| files.directory(name));
        let at = |name: &str| files.path().join(name);
        let host = Host::at(at("proc"), at("sys"), at("dev")).unwrap();
        let mut plan = Plan::default();
        ByVariable::boxed(Told, is_all, &Asked::of(&spec))
            .resolve(&settings, &host, &mut plan)
            .unwrap();
        assert_eq!(plan.remarks.is_empty(), !plan.notes.is_empty());
        plan.notes.join("\n")
    }

    #[test]
    fn one_policy_decides_for_every_vendor_without_its_own() {
        let strict = "accept-visible-devices-envvar-when-unprivileged = false";
        let open = "kubernetes-trusted-namespaces = [\"*\"]";
        let mine = "kubernetes-trusted-namespaces = [\"web\"]";
        let web = Some(("container", "web"));
        let sandbox = Some(("sandbox", "kube-system"));
        for (lines, pod, is_privileged, is_all, expected) in [
            ("", None, false, true, ""),
            ("", web, false, true, "among kubernetes-trusted-namespaces of [gpu]"),
            ("", web, false, false, ""),
            ("", web, true, true, ""),
            ("", Some(("container", "kube-amd-gpu")), false, true, ""),
            ("", sandbox, false, true, "sandbox"),
            ("", sandbox, true, false, "sandbox"),
            (open, sandbox, true, true, "sandbox"),
            (open, web, false, true, ""),
            (mine, web, false, true, ""),
            (mine, Some(("container", "kube-system")), false, true, "\"kube-system\""),
            (strict, None, false, false, strict.trim_end_matches(" = false")),
            (strict, web, false, false, strict.trim_end_matches(" = false")),
            (strict, None, true, true, ""),
        ] {
            let said = said(lines, pod, is_privileged, is_all);
            assert!(said.contains(expected), "{lines} {pod:?} {said}");
            assert_eq!(said.is_empty(), expected.is_empty(), "{lines} {pod:?} {said}");
            assert!(said.is_empty() || said.starts_with("X_VISIBLE_DEVICES=all: ignored"));
        }
    }
}
