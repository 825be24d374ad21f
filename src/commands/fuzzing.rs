//! Command lines.

use std::ffi::OsString;
use std::time::Duration;

use super::{checkpoint, events, exec, ps, update};
use crate::cli::{Cli, Refused, go_flags};
use crate::container::activation::Activation;
use crate::container::id::ContainerId;
use crate::container::kill::parse_signal;
use crate::fuzzing::{Choices, Target, text};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "command_line", run: command_line },
    Target { name: "option_values", run: option_values },
];

/// Arguments, one a line.
fn command_line(data: &[u8]) {
    let mut args: Vec<OsString> = vec!["gpurun".into()];
    args.extend(text(data).lines().map(OsString::from));
    if let Ok(once) = go_flags::normalize(args.clone()) {
        assert!(once.len() <= args.len());
        assert_eq!(once.first(), args.first());
        assert_eq!(go_flags::normalize(once.clone()), Ok(once), "twice is not once: {args:?}");
    }
    match Cli::from_args(args) {
        Ok(_) => {}
        Err(Refused::Help(help)) => assert!(!help.to_string().is_empty()),
        Err(Refused::Usage(usage)) => {
            assert!(!usage.message.contains('\n'), "two lines: {:?}", usage.message);
            assert!(!usage.hint().is_empty() && usage.status != 0);
        }
    }
}

/// What kind of value, and the value.
fn option_values(data: &[u8]) {
    let mut choices = Choices(data);
    let kind = choices.byte();
    let text = text(choices.0);
    match kind % 8 {
        0 => {
            if let Ok(duration) = events::parse_duration(text) {
                assert!(duration <= events::LONGEST);
                let again = format!("{}s", duration.as_secs());
                let again = events::parse_duration(&again).expect("a duration");
                assert!(duration - again < Duration::from_secs(1));
            }
        }
        1 => {
            if let Ok(bytes) = update::parse_bytes(text) {
                assert!(bytes >= -1);
                assert_eq!(update::parse_bytes(&bytes.to_string()), Ok(bytes));
            }
        }
        2 => {
            if let Ok((uid, gid)) = exec::parse_user(text) {
                let again = gid.map_or(uid.to_string(), |gid| format!("{uid}:{gid}"));
                assert_eq!(exec::parse_user(&again).expect("a user"), (uid, gid));
                assert!(uid != u32::MAX && gid != Some(u32::MAX));
                assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'));
            }
        }
        3 => {
            if let Ok((address, _)) = checkpoint::address_and_port(text) {
                assert!(!address.is_empty() && text.contains(&address));
            }
        }
        4 => {
            if let Ok(signal) = parse_signal(text) {
                assert!((0..=64).contains(&signal));
                assert_eq!(parse_signal(&signal.to_string()).expect("a number"), signal);
                assert_eq!(parse_signal(&text.to_ascii_lowercase()).expect("a signal"), signal);
            }
        }
        5 => {
            if let Ok(id) = ContainerId::parse(text) {
                let path = std::path::Path::new(id.as_str());
                assert_eq!(path.components().count(), 1);
                assert!(path.file_name() == Some(id.as_str().as_ref()), "{id} is a path");
            }
        }
        6 => {
            if let Ok(kept) = ps::lines_of(text, &[1, 12]) {
                assert!(kept.lines().all(|line| text.lines().any(|known| known == line)));
            }
        }
        _ => {
            let mut words = text.splitn(3, '\n');
            let [pid, count, names] = [(); 3].map(|()| words.next().map(str::as_ref));
            let found = Activation::parse(1, pid, count, names);
            assert!(found.count <= 1 << 16);
            assert_eq!(found.environment().is_empty(), found.count == 0);
        }
    }
}
