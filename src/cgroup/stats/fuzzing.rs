//! Files with counters.

use super::{cpuset, io, parse, pressure};
use crate::fuzzing::{Choices, text};

/// One of the files with a syntax of their own.
pub fn counters(data: &[u8]) {
    let mut choices = Choices(data);
    let kind = choices.byte();
    let text = text(choices.0);
    match kind % 4 {
        0 => {
            let Some(list) = cpuset::parse_list(text) else { return };
            assert!(list.iter().all(|number| *number < 8192));
            let again: Vec<String> = list.iter().map(ToString::to_string).collect();
            assert_eq!(cpuset::parse_list(&again.join(",")), Some(list));
        }
        1 => {
            let Some(found) = pressure::parse(text) else { return };
            serde_json::to_string(&found).expect("it can be printed");
        }
        2 => {
            let mut stats = io::BlockIo::default();
            for line in text.lines() {
                let _ = io::add_v2(line, &mut stats);
            }
            serde_json::to_string(&stats).expect("it can be printed");
        }
        _ => {
            if let Some(number) = parse(text) {
                assert!(text == "max" || text.starts_with('-') || text.parse() == Ok(number));
            }
        }
    }
}
