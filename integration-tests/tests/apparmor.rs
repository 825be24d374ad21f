//! `process.apparmorProfile` with real profiles. Runs where the kernel has AppArmor enabled:
//! ordinary Debian and Ubuntu machines, and the virtual machine of `hack/vm`.

use integration_tests::{Config, Container, runtime, skipped};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A loaded profile, unloaded when it goes out of scope.
struct Profile {
    name: String,
    text: String,
}

impl Profile {
    /// Loads a profile that allows everything but reading /etc/secret and writing below /var.
    /// `None` where the machine has no AppArmor, which is said.
    fn load(what: &str) -> Option<Profile> {
        if !Path::new("/sys/kernel/security/apparmor/profiles").exists() {
            skipped("AppArmor is not enabled on this host, or securityfs is not mounted");
            return None;
        }
        if Command::new("apparmor_parser").arg("--version").output().is_err() {
            skipped("no apparmor_parser in PATH (Debian: apparmor)");
            return None;
        }
        let name = format!("gpurun-test-{what}-{}", std::process::id());
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n\
             file,\ncapability,\nnetwork,\nsignal,\nptrace,\nunix,\n\
             deny /etc/secret r,\ndeny /var/** w,\n}}\n"
        );
        let profile = Profile { name, text };
        profile.parser("--replace");
        Some(profile)
    }

    fn parser(&self, action: &str) {
        let mut command = Command::new("apparmor_parser");
        // No cache: the profile lives as long as one test.
        runtime::finish(command.args([action, "--skip-cache"]), self.text.as_bytes()).ok();
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

const LOOK: &str = "cat /etc/secret 2>/dev/null || echo unreadable; \
                    touch /var/x 2>/dev/null || echo unwritable; \
                    cat /etc/public; cat /proc/self/attr/current";

fn container(config: Config) -> Container {
    let c = Container::native(config);
    fs::write(c.rootfs().join("etc/secret"), "secret\n").unwrap();
    fs::write(c.rootfs().join("etc/public"), "public\n").unwrap();
    c
}

#[test]
fn a_profile_confines_the_process_with_and_without_new_privileges() {
    let Some(profile) = Profile::load("run") else { return };
    for no_new_privileges in [true, false] {
        let config = Config::sh(LOOK)
            .set("/process/apparmorProfile", profile.name.as_str().into())
            .set("/process/noNewPrivileges", no_new_privileges.into());
        let c = container(config);
        let expected = format!("unreadable\nunwritable\npublic\n{} (enforce)", profile.name);
        assert_eq!(c.run().ok(), expected);
        assert!(!c.rootfs().join("var/x").exists());
    }
}

#[test]
fn without_a_profile_a_container_is_not_confined() {
    let Some(_profile) = Profile::load("none") else { return };
    assert_eq!(container(Config::sh(LOOK)).run().ok(), "secret\npublic\nunconfined");
}

#[test]
fn exec_is_confined_as_the_container_is_or_as_it_is_told() {
    let Some(profile) = Profile::load("exec") else { return };
    let Some(other) = Profile::load("exec-other") else { return };
    let name = profile.name.as_str();
    let c = container(Config::idle().set("/process/apparmorProfile", name.into()));
    c.run_detached();
    let current = ["cat", "/proc/self/attr/current"];
    assert_eq!(c.exec(&current).ok(), format!("{name} (enforce)"));
    assert_eq!(
        c.exec_with(&["--apparmor", &other.name], &current).ok(),
        format!("{} (enforce)", other.name)
    );
    assert_eq!(c.exec(&["sh", "-c", "cat /etc/secret 2>/dev/null || echo no"]).ok(), "no");
}

#[test]
fn a_profile_that_is_not_loaded_is_named() {
    let Some(_profile) = Profile::load("absent") else { return };
    let name = "gpurun-test-no-such-profile";
    let c = Container::native(Config::idle().set("/process/apparmorProfile", name.into()));
    c.create().refused(1, &["apparmor", name]);
    c.assert_gone();
}
