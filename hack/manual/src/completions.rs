//! What shells complete.

use clap_complete::{Shell, generate};

/// Files by the names under which the shells look for them.
#[must_use]
pub fn all() -> Vec<(String, Vec<u8>)> {
    let shells = [("gpurun", Shell::Bash), ("_gpurun", Shell::Zsh), ("gpurun.fish", Shell::Fish)];
    let each = shells.map(|(file, shell)| {
        let mut content = Vec::new();
        generate(shell, &mut crate::command(), "gpurun", &mut content);
        (file.to_owned(), content)
    });
    each.into()
}
