//! A request for devices by their CDI names.

use std::collections::BTreeMap;
use std::path::Path;

use super::applied::Given;
use super::edits::{self, Owner};
use super::registry::{Registry, Resolved, Unresolvable};
use super::{Config, QualifiedName, SECTION, annotations};
use crate::gpu::error::GpuError;
use crate::gpu::plan::Plan;
use crate::gpu::request::Asked;
use crate::gpu::vendor::{Summary, VENDORS, Wish};
use crate::host::{Host, HostError, Settings, Tree};

/// Names, and for those of a vendor that gpurun knows the wish that does without a CDI file.
#[derive(Debug)]
pub struct CdiWish {
    names: Vec<QualifiedName>,
    native: Vec<(&'static str, Box<dyn Wish>)>,
    source: String,
    owner: Owner,
    /// For names in annotations: what the engine may have applied already.
    given: Option<Given>,
}

/// Why the files' word on a kind cannot be taken.
enum Doubt {
    /// No file is about the kind, as is usual where nobody needs one.
    NoFile(String),
    /// A name that no file defines, or a file that a change of the driver has left behind.
    Wrong(String),
}

/// Whether an annotation has CDI's own prefix, or with another holds nothing but CDI names: only
/// then it matters which prefixes are configured and whose annotations count.
pub fn may_be_annotated(asked: &Asked<'_>) -> bool {
    asked.annotations().any(|(key, value)| {
        key.starts_with(annotations::PREFIX)
            || key.contains('/') && value.split(',').all(QualifiedName::is_qualified)
    })
}

impl CdiWish {
    /// A wish for the names in annotations. `None`: the container has all of them already.
    ///
    /// # Errors
    /// What a vendor says of a request for its devices.
    pub fn of_annotations(
        names: Vec<QualifiedName>,
        asked: &Asked<'_>,
    ) -> Result<Option<Self>, GpuError> {
        // An engine that knows CDI may have applied them already, and left the annotation.
        let injected: Vec<&str> = VENDORS
            .iter()
            .filter(|vendor| vendor.is_injected(asked))
            .flat_map(|vendor| vendor.kinds().iter().copied())
            .collect();
        let names: Vec<_> =
            names.into_iter().filter(|name| !injected.contains(&name.kind.as_str())).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let wish = Self::new(names, "annotations".to_owned(), asked)?;
        Ok(Some(Self { given: Some(Given::of(asked)), ..wish }))
    }

    /// A wish for these names. `source`: where they were found.
    ///
    /// # Errors
    /// What a vendor says of a request for its devices.
    pub fn new(
        names: Vec<QualifiedName>,
        source: String,
        asked: &Asked<'_>,
    ) -> Result<Self, GpuError> {
        let mut native = Vec::new();
        for vendor in VENDORS {
            for kind in vendor.kinds().iter().copied() {
                let of_kind = names.iter().filter(|name| name.kind == kind);
                let devices: Vec<String> = of_kind.map(|name| name.device.clone()).collect();
                if !devices.is_empty() {
                    native.push((kind, vendor.native(kind, devices, asked)?));
                }
            }
        }
        let (uid, gid) = asked.user();
        Ok(Self { names, native, source, owner: Owner { uid, gid }, given: None })
    }

    /// The names that are not applied already; of the others the plan says that they are.
    fn open_names(&self, registry: &Registry, plan: &mut Plan) -> Vec<QualifiedName> {
        let is_open = |name: &&QualifiedName| {
            let Some(given) = &self.given else { return true };
            let edits = registry.resolve(std::slice::from_ref(name));
            let is_applied = edits.is_ok_and(|edits| given.has(&edits));
            if is_applied {
                plan.remarks
                    .push(format!("{name}: applied already by the engine, all that it brings"));
            }
            !is_applied
        };
        self.names.iter().filter(is_open).cloned().collect()
    }

    /// `None`: the files' word on these names of one kind can be taken.
    fn doubt(
        kind: &str,
        names: &[QualifiedName],
        registry: &Registry,
    ) -> Result<Option<Doubt>, HostError> {
        let resolved = match registry.resolve(names) {
            Ok(resolved) => resolved,
            Err(Unresolvable { names, problems }) => {
                let unknown: Vec<String> = names.iter().map(ToString::to_string).collect();
                let reason = format!("no CDI file defines {}", unknown.join(", "));
                let is_usual =
                    problems.is_empty() && registry.files().all(|file| file.spec.kind != kind);
                let doubt = if is_usual { Doubt::NoFile } else { Doubt::Wrong };
                return Ok(Some(doubt(reason)));
            }
        };
        let root = Tree::open(Path::new("/"))?;
        for Resolved { file, edits, .. } in resolved {
            for source in edits::sources(edits) {
                if root.status(source)?.is_none() {
                    return Ok(Some(Doubt::Wrong(format!(
                        "CDI file {} is stale: {} does not exist",
                        file.display(),
                        source.display()
                    ))));
                }
            }
        }
        Ok(None)
    }
}

impl Wish for CdiWish {
    fn summary(&self) -> Summary {
        Summary {
            vendor: SECTION.into(),
            source: self.source.clone(),
            devices: self.names.iter().map(ToString::to_string).collect(),
            capabilities: Vec::new(),
        }
    }

    fn resolve(&self, settings: &Settings, host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        let config = Config::read(settings)?;
        let registry = Registry::read(&config.dirs)?;
        let mut doubts = BTreeMap::new();
        let mut open = self.open_names(&registry, plan);
        for (kind, wish) in &self.native {
            if open.iter().any(|name| name.kind == *kind)
                && let Some(reason) = wish.refusal(settings)?
            {
                plan.notes.push(reason);
                open.retain(|name| name.kind != *kind);
            }
        }
        for (kind, wish) in &self.native {
            let names: Vec<_> = open.iter().filter(|name| name.kind == *kind).cloned().collect();
            if !names.is_empty()
                && let Some(doubt) = Self::doubt(kind, &names, &registry)?
            {
                doubts.insert(*kind, (doubt, wish));
            }
        }
        let from_files: Vec<QualifiedName> =
            open.into_iter().filter(|name| !doubts.contains_key(name.kind.as_str())).collect();
        for resolved in registry.resolve(&from_files)? {
            edits::add(&resolved, self.owner, host, plan)?;
        }
        for (kind, (doubt, wish)) in doubts {
            let (reason, to) = match doubt {
                Doubt::NoFile(reason) => (reason, &mut plan.remarks),
                Doubt::Wrong(reason) => (reason, &mut plan.notes),
            };
            to.push(format!("{reason}: {kind} is taken from the machine itself"));
            wish.resolve(settings, host, plan)?;
        }
        Ok(())
    }
}
