//! From a profile to one verdict per system call number, per ABI.
//!
//! The rules of the merging are libseccomp's, as runc feeds it:
//! - a rule with the default action does nothing;
//! - a name that no ABI knows is skipped, also one that only a newer kernel knows;
//! - a rule without conditions beats rules with conditions, the first one of them counts;
//! - several rules with conditions are alternatives. Where two with different actions match the
//!   same call the stricter action wins (libseccomp's own order depends on how it sorts its tree);
//!   the same conditions with two actions are an error.
//!
//! ABIs that this machine's kernel cannot run are left out: no call ever arrives under them. The
//! machine's own ABI is always in, listed or not.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

use super::action;
use super::arch::Arch;
use super::condition::{Condition, alternatives};
use super::error::SeccompError;
use super::multiplex::multiplexed;
use super::syscalls::{self, ARM_PRIVATE, Number, ORDINARY, PRIVATE};

/// A profile, resolved.
pub(super) struct Resolved<'p> {
    /// What happens to a call that no rule names.
    pub default: u32,
    /// Whether numbers above the newest one that the profile knows get `ENOSYS`, so that a C
    /// library falls back instead of failing with the default action's errno (runc's rule).
    pub enosys: bool,
    /// One per ABI, the machine's own first.
    pub tables: Vec<Table<'p>>,
}

/// The verdicts for one ABI.
pub(super) struct Table<'p> {
    /// Which one.
    pub arch: Arch,
    ordinary: Vec<Slot>,
    private: [Slot; PRIVATE],
    conditional: Vec<Rules<'p>>,
    /// The highest ordinary number among all names of the profile, whatever their action.
    highest: u16,
}

/// The rules with conditions for one call.
pub(super) struct Rules<'p> {
    /// The call, for error messages.
    pub syscall: &'p str,
    /// Whether arguments have 64 bits.
    pub wide: bool,
    /// The strictest action first.
    pub rules: Vec<Rule>,
}

/// "When all of these hold, answer that".
pub(super) struct Rule {
    /// Not empty.
    pub conditions: Vec<Condition>,
    /// `SECCOMP_RET_*`.
    pub action: u32,
}

/// What is done for a run of consecutive numbers.
#[derive(Clone, Copy)]
pub(super) enum Verdict<'t> {
    /// Answer that.
    Return(u32),
    /// Look at the arguments, else answer the default.
    Rules(&'t Rules<'t>),
}

#[derive(Clone, Copy)]
enum Slot {
    Default,
    Return(u32),
    Conditional(u16),
}

/// Resolves `profile` for a machine whose own ABI is `native`.
pub(super) fn resolve(profile: &LinuxSeccomp, native: Arch) -> Result<Resolved<'_>, SeccompError> {
    let default_action = profile.default_action();
    let default = action::return_value(default_action, profile.default_errno_ret())?;
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let mut tables: Vec<_> = native
        .family()
        .iter()
        .filter(|arch| **arch == native || listed.contains(&arch.profile_name()))
        .map(|arch| Table::new(*arch))
        .collect();

    for entry in profile.syscalls().as_deref().unwrap_or_default() {
        let value = action::return_value(entry.action(), entry.errno_ret())?;
        let args = entry.args().as_deref().unwrap_or_default();
        let first = entry.names().first().map_or("", String::as_str);
        let alternatives = alternatives(first, args)?;
        for name in entry.names() {
            if name.is_empty() {
                return Err(SeccompError::EmptyName);
            }
            if entry.action() == LinuxSeccompAction::ScmpActNotify && name == "write" {
                return Err(SeccompError::NotifyWrite);
            }
            let Some(numbers) = syscalls::lookup(name) else {
                continue;
            };
            for table in &mut tables {
                let direct = numbers.on(table.arch);
                if let Some(Number::Ordinary(number)) = direct {
                    table.highest = table.highest.max(number);
                }
                if value != default {
                    table.add(name, direct, &alternatives, value)?;
                }
            }
        }
    }
    for table in &mut tables {
        for rules in &mut table.conditional {
            rules.rules.sort_by_key(|rule| action::strictness(rule.action));
        }
    }
    let enosys = !action::lets_pass(default_action)
        && profile.default_errno_ret() != Some(libc::ENOSYS as u32);
    Ok(Resolved { default, enosys, tables })
}

impl<'p> Table<'p> {
    fn new(arch: Arch) -> Self {
        Self {
            arch,
            ordinary: vec![Slot::Default; ORDINARY],
            private: [Slot::Default; PRIVATE],
            conditional: Vec::new(),
            highest: 0,
        }
    }

    /// Adds a profile's rule for one call, behind both of its doors where it has two.
    fn add(
        &mut self,
        syscall: &'p str,
        direct: Option<Number>,
        alternatives: &[Vec<Condition>],
        action: u32,
    ) -> Result<(), SeccompError> {
        if let Some((door, selector)) = multiplexed(syscall, self.arch)
            && let Some(number) = syscalls::lookup(door).and_then(|door| door.on(self.arch))
        {
            // The selector takes the place of what was said about argument 0; the rest stays, as
            // in libseccomp, though it now meets a pointer (or ipc's own arguments).
            let selected = |conditions: &[Condition]| {
                let mut all = vec![Condition::equals(0, selector)];
                all.extend(conditions.iter().filter(|condition| condition.arg != 0));
                all
            };
            if alternatives.is_empty() {
                self.insert(syscall, number, &selected(&[]), action)?;
            }
            for conditions in alternatives {
                self.insert(syscall, number, &selected(conditions), action)?;
            }
        }
        let Some(number) = direct else { return Ok(()) };
        if alternatives.is_empty() {
            self.insert(syscall, number, &[], action)?;
        }
        for conditions in alternatives {
            self.insert(syscall, number, conditions, action)?;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        syscall: &'p str,
        number: Number,
        conditions: &[Condition],
        action: u32,
    ) -> Result<(), SeccompError> {
        let slot = match number {
            Number::Ordinary(number) => self.ordinary.get_mut(usize::from(number)),
            Number::ArmPrivate(number) => self.private.get_mut(usize::from(number)),
        };
        let Some(slot) = slot else { return Ok(()) };
        if conditions.is_empty() {
            if !matches!(slot, Slot::Return(_)) {
                *slot = Slot::Return(action);
            }
            return Ok(());
        }
        let index = match *slot {
            Slot::Return(_) => return Ok(()),
            Slot::Conditional(index) => usize::from(index),
            Slot::Default => {
                let index = self.conditional.len();
                // One entry per number, and there are fewer numbers than that.
                *slot = Slot::Conditional(index as u16);
                self.conditional.push(Rules {
                    syscall,
                    wide: self.arch.is_64_bit(),
                    rules: Vec::new(),
                });
                index
            }
        };
        let Some(Rules { rules, wide, .. }) = self.conditional.get_mut(index) else {
            return Ok(());
        };
        let conditions: Vec<_> = if *wide {
            conditions.to_vec()
        } else {
            conditions.iter().map(|condition| condition.narrow()).collect()
        };
        match rules.iter().find(|rule| rule.conditions == conditions) {
            Some(rule) if rule.action == action => {}
            Some(_) => {
                return Err(SeccompError::Conflict {
                    syscall: syscall.to_owned(),
                    arch: self.arch,
                });
            }
            None => rules.push(Rule { conditions, action }),
        }
        Ok(())
    }

    /// The verdicts as runs of consecutive numbers, each from its first number up to the next run's.
    ///
    /// The first run begins at the ABI's number 0; neighbours differ.
    pub fn runs(&self, default: u32, enosys: bool) -> Vec<(u32, Verdict<'_>)> {
        // As runc: an ABI for which the profile knows no call (or only number 0) is left alone.
        let enosys = enosys && self.highest != 0;
        let base = self.arch.base();
        let above = if enosys { action::ENOSYS } else { default };
        let end = if enosys { usize::from(self.highest) + 1 } else { ORDINARY };

        let mut runs = Vec::with_capacity(128);
        for (number, slot) in self.ordinary.iter().take(end).enumerate() {
            push(&mut runs, base + number as u32, self.verdict(*slot, default));
        }
        push(&mut runs, base + end as u32, Verdict::Return(above));
        if self.arch == Arch::Arm {
            for (number, slot) in self.private.iter().enumerate() {
                push(&mut runs, ARM_PRIVATE + number as u32, self.verdict(*slot, default));
            }
            push(&mut runs, ARM_PRIVATE + PRIVATE as u32, Verdict::Return(above));
        }
        runs
    }

    fn verdict(&self, slot: Slot, default: u32) -> Verdict<'_> {
        match slot {
            Slot::Default => Verdict::Return(default),
            Slot::Return(action) => Verdict::Return(action),
            Slot::Conditional(index) => match self.conditional.get(usize::from(index)) {
                Some(rules) => Verdict::Rules(rules),
                None => Verdict::Return(default),
            },
        }
    }
}

/// Starts a run at `first`, unless it only goes on with the last one.
pub(super) fn push<'t>(runs: &mut Vec<(u32, Verdict<'t>)>, first: u32, verdict: Verdict<'t>) {
    if let (Some((_, Verdict::Return(last))), Verdict::Return(next)) = (runs.last(), verdict)
        && *last == next
    {
        return;
    }
    runs.push((first, verdict));
}
