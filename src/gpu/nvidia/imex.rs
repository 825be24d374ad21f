//! IMEX channels: nodes through which GPUs of several machines share memory.

use super::config::Config;
use super::error::Error;
use super::nodes;
use super::wish::{Besides, NvidiaWish};
use crate::gpu::plan::Plan;
use crate::gpu::request::Selection;
use crate::host::Host;

/// The directory of the nodes, below `/dev`, which is also the name of their major number.
pub const DIRECTORY: &str = "nvidia-caps-imex-channels";

/// The highest channel.
const LAST: u32 = (1 << 20) - 1;

/// The IMEX channels that count: those of mounts, else those of the variable where variables count.
pub fn counted(wish: &NvidiaWish, config: &Config, plan: &mut Plan) -> Option<Selection> {
    let Besides { imex_mounts, imex_variable, .. } = &wish.besides;
    if !config.imex_channels {
        return None;
    }
    if imex_mounts.is_some() {
        return imex_mounts.clone();
    }
    let distrust = imex_variable.as_ref().and_then(|_| config.variables.distrust(&wish.standing));
    if let Some(reason) = distrust {
        plan.notes.push(format!("NVIDIA_IMEX_CHANNELS: {reason}"));
        return None;
    }
    match imex_variable {
        // As NVIDIA's toolkit has it, which images rely on that say all of everything.
        Some(Selection::All) => {
            plan.notes.push(
                "NVIDIA_IMEX_CHANNELS=all: ignored; name the channels by their numbers".to_owned(),
            );
            None
        }
        other => other.clone(),
    }
}

/// Adds the nodes of these channels: `3`, `channel3`, or all that the machine has.
pub fn add(host: &Host, channels: &Selection, plan: &mut Plan) -> Result<(), Error> {
    let numbers = match channels {
        Selection::None => return Ok(()),
        Selection::All => {
            let names = host.dev.names(DIRECTORY)?;
            let mut numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
            numbers.sort_unstable();
            if numbers.is_empty() {
                plan.notes.push(format!(
                    "all IMEX channels were asked for: {} has none",
                    host.dev.at(DIRECTORY).display()
                ));
                return Ok(());
            }
            numbers
        }
        Selection::Ids(ids) => ids
            .iter()
            .map(|id| number(id).ok_or_else(|| Error::BadImexChannel { id: id.clone() }))
            .collect::<Result<_, _>>()?,
    };
    for channel in numbers {
        let name = format!("{DIRECTORY}/channel{channel}");
        if nodes::has(plan, &name) {
            continue;
        }
        let missing = || Error::NoImexChannel { channel, path: host.dev.at(&name) };
        if host.dev.link_status(&name)?.is_none() {
            return Err(missing());
        }
        let major = nodes::major(host, DIRECTORY, "nvidia")?;
        let why = format!("IMEX channel {channel}");
        let node = nodes::node(host, &name, major, channel, why, &mut plan.notes)?;
        if node.host_path.is_none() {
            return Err(missing());
        }
        plan.devices.push(node);
    }
    Ok(())
}

/// The number in `3` or `channel3`.
fn number(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("channel").unwrap_or(id);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && *number <= LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_number_of_twenty_bits() {
        for (id, expected) in [
            ("0", Some(0)),
            ("channel7", Some(7)),
            ("1048575", Some(1_048_575)),
            ("1048576", None),
            ("99999999999", None),
            ("-1", None),
            ("+1", None),
            ("channel", None),
            ("", None),
            ("channelchannel1", None),
            ("../../sda", None),
        ] {
            assert_eq!(number(id), expected, "{id:?}");
        }
    }
}
