//! The cgroups below a container's that `exec --cgroup` names.

use std::path::Path;

use super::{Cgroup, CgroupError, Mode, locate};

impl Cgroup {
    /// The cgroup of `exec --cgroup`: one PATH relative to the container's in every hierarchy, or
    /// one or more `CONTROLLER[,CONTROLLER]:PATH` on v1, each for the named ones. It must exist
    /// already; joining it finds out.
    ///
    /// # Errors
    /// [`CgroupError::SubCgroup`]: `..` in it, a controller on v2, an unknown controller, the same
    /// one twice, or several paths without a controller.
    pub fn child<S: AsRef<str>>(&self, arguments: &[S]) -> Result<Self, CgroupError> {
        let mut child = self.clone();
        let mut named: Vec<&str> = Vec::new();
        for argument in arguments.iter().map(AsRef::as_ref) {
            let refuse = |reason: &str| CgroupError::SubCgroup {
                argument: argument.to_owned(),
                reason: reason.to_owned(),
            };
            let (controllers, path) = match argument.split_once(':') {
                None if arguments.len() > 1 => return Err(refuse("missing <controller>: prefix")),
                None => (None, argument),
                Some(_) if self.mode == Mode::V2 => {
                    return Err(refuse("cgroup v2 has no separate controllers"));
                }
                Some((controllers, path)) => (Some(controllers), path),
            };
            let path = locate::relative(Path::new(path))
                .map_err(|reason| refuse(&format!("bad sub cgroup path: {reason}")))?;
            for controller in controllers.into_iter().flat_map(|list| list.split(',')) {
                if controller.is_empty() {
                    return Err(refuse("empty <controller> prefix"));
                }
                if named.contains(&controller) {
                    return Err(refuse(&format!(
                        "controller {controller} specified multiple times"
                    )));
                }
                if !self.hierarchies.iter().any(|hierarchy| hierarchy.has(controller)) {
                    return Err(refuse(&format!("unknown controller {controller}")));
                }
                named.push(controller);
            }
            if path.as_os_str().is_empty() {
                continue;
            }
            for (hierarchy, own) in child.hierarchies.iter_mut().zip(&self.hierarchies) {
                let wanted =
                    controllers.is_none_or(|list| list.split(',').any(|name| hierarchy.has(name)));
                // Controllers that share a hierarchy are moved once.
                if wanted {
                    hierarchy.path = own.path.join(&path);
                    child.id = None;
                }
            }
        }
        Ok(child)
    }
}
