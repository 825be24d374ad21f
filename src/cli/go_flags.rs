//! Command lines as Go's flag package takes them, which is how runc's callers write them:
//!
//! * long options with one dash: `-bundle`;
//! * switches with a value: `--detach=false`;
//! * an empty value, which is the same as no option: `--pid-file ''`.
//!
//! All that is turned into what clap reads.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;

/// Rewrites `args`, the program's name first, up to what belongs to the container's program.
///
/// # Errors
/// The value of a switch that is neither true nor false, in Go's words.
pub fn normalize(args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    // Knowing the options costs time, and most callers need nothing of this.
    if !args.iter().skip(1).any(needs_work) {
        return Ok(args);
    }
    let mut program = Cli::command();
    program.build();
    let mut command: &Command = &program;
    let mut found_command = false;
    let mut done = Vec::with_capacity(args.len());
    let mut rest = args.into_iter();
    done.extend(rest.next());
    while let Some(arg) = rest.next() {
        let Some(text) = arg.to_str().filter(|text| *text != "--") else {
            done.push(arg);
            break;
        };
        if text.len() < 2 || !text.starts_with('-') {
            match command.find_subcommand(text) {
                Some(found) if !found_command => (command, found_command) = (found, true),
                // The container's own arguments, or those of ps(1).
                _ if command.get_positionals().any(Arg::is_trailing_var_arg_set) => {
                    done.push(arg);
                    break;
                }
                _ => {}
            }
            done.push(arg);
            continue;
        }
        let name = text.trim_start_matches('-');
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some((option, spelled)) = find(command, name) else {
            // Go knows no letters joined behind one dash, and nor do its users' mistakes.
            let long = name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic());
            done.push(if long {
                format!("--{}", text.trim_start_matches('-')).into()
            } else {
                arg
            });
            continue;
        };
        match (option.get_action(), value) {
            (ArgAction::SetTrue, Some(value)) => match go_bool(value) {
                Some(true) => done.push(spelled.into()),
                Some(false) => {}
                None => {
                    return Err(format!(
                        "invalid boolean value {value:?} for -{name}: parse error"
                    ));
                }
            },
            (action, None) if !action.takes_values() => done.push(spelled.into()),
            (_, Some("")) => {}
            (_, Some(value)) => done.push(format!("{spelled}={value}").into()),
            (_, None) if option.is_require_equals_set() => done.push(spelled.into()),
            (_, None) => match rest.next() {
                Some(value) if value.is_empty() => {}
                value => {
                    done.push(spelled.into());
                    done.extend(value);
                }
            },
        }
    }
    done.extend(rest);
    Ok(done)
}

/// A long option with one dash, a switch with a value, an empty value.
fn needs_work(arg: &OsString) -> bool {
    let arg = arg.as_encoded_bytes();
    let value = || arg.iter().position(|byte| *byte == b'=').and_then(|at| arg.get(at + 1..));
    match arg {
        [] => true,
        [b'-', second, _, ..] if *second != b'-' => true,
        [b'-', ..] => value().is_some_and(|value| {
            value.is_empty() || std::str::from_utf8(value).is_ok_and(|v| go_bool(v).is_some())
        }),
        _ => false,
    }
}

/// The option of that name, and how clap wants it spelled.
fn find<'c>(command: &'c Command, name: &str) -> Option<(&'c Arg, String)> {
    if let Some(long) = command.get_arguments().find(|arg| arg.get_long() == Some(name)) {
        return Some((long, format!("--{name}")));
    }
    let mut letters = name.chars();
    let (letter, None) = (letters.next()?, letters.next()) else { return None };
    let short = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
    Some((short, format!("-{letter}")))
}

/// What strconv.ParseBool takes.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(args: &[&str]) -> Vec<String> {
        normalize(args.iter().map(OsString::from).collect())
            .expect("understood")
            .into_iter()
            .map(|arg| arg.into_string().expect("utf-8"))
            .collect()
    }

    #[test]
    fn long_options_with_one_dash_are_understood_up_to_the_containers_own_arguments() {
        assert_eq!(
            normal(&["gpurun", "-root", "/x", "create", "-bundle=b", "-pid-file", "p", "id"]),
            ["gpurun", "--root", "/x", "create", "--bundle=b", "--pid-file", "p", "id"]
        );
        assert_eq!(
            normal(&["gpurun", "exec", "-u", "1", "id", "find", "-user", "-tty"]),
            ["gpurun", "exec", "-u", "1", "id", "find", "-user", "-tty"]
        );
        assert_eq!(normal(&["gpurun", "kill", "id", "-9"]), ["gpurun", "kill", "id", "-9"]);
        assert_eq!(
            normal(&["gpurun", "ps", "-format", "table", "id", "-format"]),
            ["gpurun", "ps", "--format", "table", "id", "-format"]
        );
    }

    #[test]
    fn options_may_follow_the_id() {
        assert_eq!(
            normal(&["gpurun", "update", "id", "-memory", "1", "-cpu-share=2"]),
            ["gpurun", "update", "id", "--memory", "1", "--cpu-share=2"]
        );
    }

    #[test]
    fn a_switch_may_have_a_value() {
        assert_eq!(
            normal(&[
                "gpurun",
                "--debug=false",
                "run",
                "-d=true",
                "--keep=0",
                "--no-pivot=T",
                "id"
            ]),
            ["gpurun", "run", "-d", "--no-pivot", "id"]
        );
        let args = ["gpurun", "run", "-detach=maybe", "id"].map(OsString::from).to_vec();
        let error = normalize(args).expect_err("refused");
        assert_eq!(error, "invalid boolean value \"maybe\" for -detach: parse error");
    }

    #[test]
    fn an_empty_value_is_no_option() {
        assert_eq!(
            normal(&["gpurun", "--log", "", "create", "--pid-file=", "--bundle", "b", "id"]),
            ["gpurun", "create", "--bundle", "b", "id"]
        );
        assert_eq!(
            normal(&["gpurun", "exec", "id", "echo", ""]),
            ["gpurun", "exec", "id", "echo", ""]
        );
    }

    #[test]
    fn what_is_not_an_option_of_the_command_is_left_for_clap_to_refuse() {
        assert_eq!(
            normal(&["gpurun", "start", "-detach", "id"]),
            ["gpurun", "start", "--detach", "id"]
        );
        assert_eq!(normal(&["gpurun", "exec", "-it", "id"]), ["gpurun", "exec", "--it", "id"]);
    }
}
