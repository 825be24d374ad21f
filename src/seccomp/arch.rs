//! The system call ABIs that a filter tells apart.

use oci_spec::runtime::Arch as ProfileArch;

/// One ABI: a numbering of system calls under one `AUDIT_ARCH_*` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit pointers on 64-bit x86: shares `AUDIT_ARCH_X86_64`, its numbers have bit 30 set.
    X32,
    /// 32-bit x86 (i386).
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI).
    Arm,
}

/// What x32 adds to its numbers (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// The ABI of 64-bit programs on this machine; `None` where no table exists.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// Every ABI that a kernel whose own one is `self` can run, `self` first.
    #[must_use]
    pub const fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X32 | Self::X86 => &[Self::X86_64, Self::X86, Self::X32],
            Self::Aarch64 | Self::Arm => &[Self::Aarch64, Self::Arm],
        }
    }

    /// The profile's name for this ABI.
    #[must_use]
    pub const fn profile_name(self) -> ProfileArch {
        match self {
            Self::X86_64 => ProfileArch::ScmpArchX86_64,
            Self::X32 => ProfileArch::ScmpArchX32,
            Self::X86 => ProfileArch::ScmpArchX86,
            Self::Aarch64 => ProfileArch::ScmpArchAarch64,
            Self::Arm => ProfileArch::ScmpArchArm,
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h: the ELF machine, and bits for 64-bit and little-endian.
    #[must_use]
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are compared in 64 bits.
    ///
    /// x32 compares 32 bits, as libseccomp does.
    #[must_use]
    pub const fn is_64_bit(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// The number that this ABI's call number 0 has in the filter's input.
    #[must_use]
    pub const fn base(self) -> u32 {
        if matches!(self, Self::X32) { X32_BIT } else { 0 }
    }
}
