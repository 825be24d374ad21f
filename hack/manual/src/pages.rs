//! Man pages: one for the program and one for each command.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// System administration commands.
const SECTION: &str = "8";

/// What every command's page says at its end.
const STATUS: &str = r#".SH EXIT STATUS
0 on success, 1 when it failed.
.B run
and
.B exec
end with the status of the program, 128 plus the number of the signal that ended it; a failed
.B exec
with 255.
.B doctor
ends with 1 when something is red.
"#;

/// What the program's page says besides.
const FILES: &str = r#".SH FILES
.TP
.I /etc/gpurun/config.toml
The configuration; every key has a default. The copy that comes with the package names all keys.
.TP
.I /run/gpurun
The state of root's containers.
.TP
.I $XDG_RUNTIME_DIR/gpurun
The state of an ordinary user's containers.
.TP
.IR /etc/cdi ,\  /var/run/cdi
Container Device Interface files.
.SH ENVIRONMENT
.TP
.B GPURUN_CONFIG
Another configuration file.
.TP
.B XDG_RUNTIME_DIR
See above.
.TP
.B NOTIFY_SOCKET
Lets the container's program tell systemd that it is ready.
.TP
.BR LISTEN_FDS ,\  LISTEN_PID ,\  LISTEN_FDNAMES
Pass descriptors to the container's program.
.TP
.B NO_COLOR
No colours, also on a terminal.
"#;

/// Files by name.
///
/// # Errors
/// None in memory.
pub fn all() -> io::Result<Vec<(String, Vec<u8>)>> {
    let program = crate::command();
    let mut pages = Vec::new();
    add(&program, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let is_program = command.get_name() == name;
    let man = Man::new(command.clone()).title(&name).section(SECTION).source("gpurun").date("");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(examples(command).as_bytes());
    page.extend(STATUS.as_bytes());
    if is_program {
        page.extend(FILES.as_bytes());
    }
    page.extend(see_also(command, is_program).as_bytes());
    pages.push((format!("{name}.{SECTION}"), ascii(&page)));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, pages)?;
    }
    Ok(())
}

/// A page for every roff: characters that are not ASCII by their numbers.
fn ascii(page: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for character in String::from_utf8_lossy(page).chars() {
        match character.is_ascii() {
            true => out.push(character),
            false => out.push_str(&format!("\\[u{:04X}]", u32::from(character))),
        }
    }
    out.into_bytes()
}

/// The examples at the end of a command's help.
fn examples(command: &Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    match help.strip_prefix("EXAMPLES:\n") {
        Some(lines) => {
            let lines: Vec<_> = lines.lines().map(|line| line.trim().replace('-', "\\-")).collect();
            format!(".SH EXAMPLES\n.EX\n{}\n.EE\n", lines.join("\n"))
        }
        None => String::new(),
    }
}

fn see_also(command: &Command, is_program: bool) -> String {
    let mut names = Vec::new();
    if !is_program {
        names.push("gpurun".to_owned());
    }
    names.extend(
        command.get_subcommands().filter_map(|below| below.get_display_name()).map(str::to_owned),
    );
    let lines: Vec<_> = names.iter().map(|name| format!(".BR {name} ({SECTION})")).collect();
    format!(".SH SEE ALSO\n{}\n", lines.join(" ,\n"))
}
