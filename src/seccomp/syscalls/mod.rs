//! System call names and their numbers on each ABI.
//!
//! `table` is generated; what is searched at run time is built from it by the compiler: one string
//! of all names and rows of offsets, so that the program carries no pointers to relocate at start.

mod table;

use super::arch::Arch;

pub use table::KERNEL;
#[cfg(test)]
pub(super) use table::SYSCALLS as TABLE;

/// ARM's private calls are stored as 0xf000 + n and are 0xf0000 + n in the kernel.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;
const STORED_PRIVATE: u16 = 0xf000;
/// How many private numbers a verdict table has room for.
pub(super) const PRIVATE: usize = 16;
/// One more than the highest ordinary number of any ABI.
pub(super) const ORDINARY: usize = highest() as usize + 1;

/// The numbers of one call, one per ABI.
#[derive(Clone, Copy)]
pub(super) struct Numbers([u16; 5]);

impl Numbers {
    /// The call's number on `arch`, if it exists there.
    pub fn on(self, arch: Arch) -> Option<Number> {
        let [x86_64, x32, x86, aarch64, arm] = self.0;
        let stored = match arch {
            Arch::X86_64 => x86_64,
            Arch::X32 => x32,
            Arch::X86 => x86,
            Arch::Aarch64 => aarch64,
            Arch::Arm => arm,
        };
        match stored {
            table::ABSENT => None,
            STORED_PRIVATE.. => Some(Number::ArmPrivate(stored - STORED_PRIVATE)),
            number => Some(Number::Ordinary(number)),
        }
    }
}

/// Where a call stands in its ABI's number space, without the ABI's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// In the kernel's table, below [`ORDINARY`].
    Ordinary(u16),
    /// The n-th of ARM's private calls, below [`PRIVATE`].
    ArmPrivate(u16),
}

/// The numbers of the call `name`; `None` if no ABI known here has it.
pub(super) fn lookup(name: &str) -> Option<Numbers> {
    let row = ROWS.binary_search_by(|row| row.name().cmp(name.as_bytes())).ok()?;
    ROWS.get(row).map(|row| Numbers(row.numbers))
}

struct Row {
    at: u16,
    len: u8,
    numbers: [u16; 5],
}

impl Row {
    fn name(&self) -> &'static [u8] {
        let at = usize::from(self.at);
        NAMES.get(at..at + usize::from(self.len)).unwrap_or_default()
    }
}

static NAMES: [u8; names_len()] = names();
static ROWS: [Row; table::SYSCALLS.len()] = rows();

const fn names_len() -> usize {
    let (mut len, mut row) = (0, 0);
    while row < table::SYSCALLS.len() {
        len += table::SYSCALLS[row].0.len();
        row += 1;
    }
    len
}

const fn names() -> [u8; names_len()] {
    let mut names = [0; names_len()];
    let (mut at, mut row) = (0, 0);
    while row < table::SYSCALLS.len() {
        let name = table::SYSCALLS[row].0.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            names[at] = name[byte];
            at += 1;
            byte += 1;
        }
        row += 1;
    }
    names
}

const fn rows() -> [Row; table::SYSCALLS.len()] {
    let mut rows = [const { Row { at: 0, len: 0, numbers: [0; 5] } }; table::SYSCALLS.len()];
    let (mut at, mut row) = (0, 0);
    while row < table::SYSCALLS.len() {
        let (name, numbers) = table::SYSCALLS[row];
        assert!(at <= u16::MAX as usize && name.len() <= u8::MAX as usize);
        rows[row] = Row { at: at as u16, len: name.len() as u8, numbers };
        at += name.len();
        row += 1;
    }
    rows
}

const fn highest() -> u16 {
    let (mut highest, mut row) = (0, 0);
    while row < table::SYSCALLS.len() {
        let mut arch = 0;
        while arch < 5 {
            let number = table::SYSCALLS[row].1[arch];
            if number < STORED_PRIVATE && number > highest {
                highest = number;
            }
            assert!(
                number < STORED_PRIVATE
                    || number == table::ABSENT
                    || ((number - STORED_PRIVATE) as usize) < PRIVATE
            );
            arch += 1;
        }
        row += 1;
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_found_and_nothing_else() {
        assert!(table::SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, numbers) in table::SYSCALLS {
            assert_eq!(lookup(name).map(|found| found.0), Some(numbers), "{name}");
        }
        for name in ["", "a", "zzz", "read0", "rea", "Read"] {
            assert!(lookup(name).is_none(), "{name}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_running_machine() {
        if Arch::native() != Some(Arch::X86_64) {
            println!("skipped: libc's numbers are compared on x86_64 only");
            return;
        }
        for (name, number) in
            [("read", libc::SYS_read), ("clone3", libc::SYS_clone3), ("mseal", libc::SYS_mseal)]
        {
            let found = lookup(name).and_then(|numbers| numbers.on(Arch::X86_64));
            assert_eq!(found, Some(Number::Ordinary(number as u16)), "{name}");
        }
    }

    #[test]
    fn x32_has_its_own_numbers_and_arm_its_private_calls() {
        let on = |name, arch| lookup(name).and_then(|numbers| numbers.on(arch));
        assert_eq!(on("ioctl", Arch::X32), Some(Number::Ordinary(514)));
        assert_eq!(on("set_tls", Arch::Arm), Some(Number::ArmPrivate(5)));
        assert_eq!(on("set_tls", Arch::X86), None);
        assert_eq!(on("accept", Arch::X86), None);
    }
}
