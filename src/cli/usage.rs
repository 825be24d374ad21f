//! A command line that cannot be understood: one line in runc's words, which callers find in the
//! log like any other error, and a hint at the help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Subcommand};

use super::{Cli, LogFormat, Subcommands};

/// A command line that cannot be understood.
#[derive(Debug)]
pub struct UsageError {
    /// What is wrong.
    pub message: String,
    /// The command whose help says more.
    pub command: Option<String>,
    /// The caller's log.
    pub log: Option<PathBuf>,
    /// How its lines look.
    pub log_format: LogFormat,
    /// The exit status: 1, or 3 for a command that does not exist, as in runc.
    pub status: u8,
}

impl UsageError {
    /// From the arguments, the program's name first, and a sentence about them.
    #[must_use]
    pub fn new(args: &[OsString], message: String) -> Self {
        let texts: Vec<&str> = args.iter().skip(1).filter_map(|arg| arg.to_str()).collect();
        let at = texts.iter().position(|text| Subcommands::has_subcommand(text));
        let global = texts.get(..at.unwrap_or(texts.len())).unwrap_or_default();
        Self {
            message,
            command: at.and_then(|at| texts.get(at..)).map(full_name),
            log: value_of(global, "log").map(PathBuf::from),
            log_format: match value_of(global, "log-format") {
                Some("json") => LogFormat::Json,
                _ => LogFormat::Text,
            },
            status: 1,
        }
    }

    /// From the arguments and what clap says about them.
    #[must_use]
    pub fn from_clap(args: &[OsString], error: &clap::Error) -> Self {
        let mut usage = Self::new(args, String::new());
        usage.message = describe(error, usage.command.as_deref());
        if error.kind() == ErrorKind::InvalidSubcommand {
            usage.status = 3;
        }
        usage
    }

    /// Where to read more.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.command {
            Some(command) => format!("See 'gpurun {command} --help'."),
            None => "See 'gpurun --help'.".to_owned(),
        }
    }
}

/// A command's name with that of its own command: `node configure`.
fn full_name(words: &[&str]) -> String {
    let program = Cli::command();
    let mut names = words.iter().take(1).copied().collect::<Vec<_>>();
    let inner = find(&program, &names).and_then(|found| {
        let is_inner = |word: &&&str| found.find_subcommand(word).is_some();
        words.iter().skip(1).find(is_inner).copied()
    });
    names.extend(inner);
    names.join(" ")
}

/// The command of this name or of these names, with its options.
fn find(program: &Command, names: &[&str]) -> Option<Command> {
    names.iter().try_fold(program.clone(), |command, name| {
        let mut found = command.find_subcommand(name)?.clone();
        found.build();
        Some(found)
    })
}

/// The last value of a global option, in either spelling.
fn value_of<'a>(args: &[&'a str], name: &str) -> Option<&'a str> {
    let mut value = None;
    for (index, arg) in args.iter().enumerate() {
        let Some(rest) = arg.strip_prefix('-') else { continue };
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        if rest == name {
            value = args.get(index + 1).copied();
        } else if let Some(joined) = rest.strip_prefix(name).and_then(|r| r.strip_prefix('=')) {
            value = Some(joined);
        }
    }
    value.filter(|value| !value.is_empty())
}

fn describe(error: &clap::Error, command: Option<&str>) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let command = command.unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("No help topic for '{name}'")
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            format!("gpurun: {command:?} requires a command")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let name = argument.trim_start_matches('-');
            format!("flag provided but not defined: -{name}")
        }
        ErrorKind::UnknownArgument => {
            format!("gpurun: {command:?} requires {} argument(s)", expected(command, "maximum"))
        }
        ErrorKind::MissingRequiredArgument => {
            format!("gpurun: {command:?} requires {} argument(s)", expected(command, "minimum"))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            // `--preserve-fds <N>`
            let flag = argument.split([' ', '=']).next().unwrap_or_default();
            let flag = flag.trim_matches(['-', '<', '>']);
            let reason = std::error::Error::source(error).map(ToString::to_string);
            match (flag, text(ContextKind::ValidValue)) {
                (flag, valid) if argument.starts_with('<') => format!(
                    "invalid value {value:?} for {flag}: {}",
                    valid.map(|valid| format!("use {valid}")).or(reason).unwrap_or_default()
                ),
                (flag, _) if value.is_empty() => format!("flag needs an argument: -{flag}"),
                ("log-format", _) => format!("invalid log-format: {value}"),
                ("format", Some(valid)) => format!("invalid format option {value:?}: use {valid}"),
                (_, valid) => {
                    let reason = reason.or(valid).unwrap_or_else(|| "parse error".to_owned());
                    format!("invalid value {value:?} for flag -{flag}: {reason}")
                }
            }
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    }
}

/// How many arguments a command takes: `exactly N`, or the bound that was missed.
fn expected(command: &str, bound: &str) -> String {
    let names: Vec<&str> = command.split(' ').collect();
    let found = find(&Cli::command(), &names).unwrap_or_default();
    let all: Vec<&Arg> = found.get_positionals().collect();
    let required = all.iter().filter(|arg| arg.is_required_set()).count();
    match bound {
        _ if required == all.len() => format!("exactly {required}"),
        "minimum" => format!("a minimum of {required}"),
        _ => format!("a {bound} of {}", all.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Refused;
    use super::*;

    fn refused(args: &[&str]) -> UsageError {
        match Cli::from_args(args.iter().map(OsString::from)) {
            Err(Refused::Usage(usage)) => usage,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn mistakes_are_named_in_runcs_words() {
        for (args, message) in [
            (&["gpurun", "create", "--nope", "x"][..], "flag provided but not defined: -nope"),
            (&["gpurun", "-nope", "list"], "flag provided but not defined: -nope"),
            (&["gpurun", "start", "-detach", "x"], "flag provided but not defined: -detach"),
            (&["gpurun", "foo"], "No help topic for 'foo'"),
            (&["gpurun", "foo", "-h"], "No help topic for 'foo'"),
            (&["gpurun", "help", "foo"], "No help topic for 'foo'"),
            (&["gpurun", "cdi"], "gpurun: \"cdi\" requires a command"),
            (&["gpurun", "--log-format", "x", "list"], "invalid log-format: x"),
            (&["gpurun", "list", "--format", "x"], "invalid format option \"x\": use table, json"),
            (&["gpurun", "create", "--bundle"], "flag needs an argument: -bundle"),
            (
                &["gpurun", "node", "configure", "dokcer"],
                "invalid value \"dokcer\" for ENGINE: use docker, containerd, crio, podman, k3s, rke2",
            ),
            (
                &["gpurun", "node", "configure"],
                "gpurun: \"node configure\" requires exactly 1 argument(s)",
            ),
            (
                &["gpurun", "cdi", "compare", "a"],
                "gpurun: \"cdi compare\" requires exactly 2 argument(s)",
            ),
        ] {
            assert_eq!(refused(args).message, message, "{args:?}");
        }
        assert_eq!(
            refused(&["gpurun", "--debug", "node", "configure", "--nope"]).hint(),
            "See 'gpurun node configure --help'."
        );
        let fds = refused(&["gpurun", "create", "--preserve-fds", "x", "y"]).message;
        assert!(fds.starts_with("invalid value \"x\" for flag -preserve-fds: "), "{fds}");
        assert_eq!(refused(&["gpurun", "foo"]).status, 3);
        let exactly = "gpurun: \"state\" requires exactly 1 argument(s)";
        assert_eq!(refused(&["gpurun", "state"]).message, exactly);
        assert_eq!(refused(&["gpurun", "state", "a", "b"]).message, exactly);
        let (few, many) = (["gpurun", "kill"], ["gpurun", "kill", "a", "b", "c"]);
        assert!(refused(&few).message.ends_with("requires a minimum of 1 argument(s)"));
        assert!(refused(&many).message.ends_with("requires a maximum of 2 argument(s)"));
    }

    #[test]
    fn the_log_is_found_in_a_command_line_that_is_not_understood() {
        let usage = refused(&["gpurun", "--log=/a", "-log", "/b", "--log-format", "json", "state"]);
        assert_eq!(usage.log.as_deref(), Some("/b".as_ref()));
        assert_eq!(
            (usage.log_format, usage.hint()),
            (LogFormat::Json, "See 'gpurun state --help'.".to_owned())
        );
    }
}
