//! [bpf(2)](https://man7.org/linux/man-pages/man2/bpf.2.html), as far as programs on a cgroup's
//! devices need it (linux/bpf.h).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// The attached program is run beside those already there and those of the ancestors.
pub const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
/// The attached program takes the place of another one (Linux 5.6).
pub const BPF_F_REPLACE: u32 = 1 << 2;

/// The kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// The operation.
    pub code: u8,
    /// Two 4-bit register numbers; see [`Insn::registers`].
    pub regs: u8,
    /// A jump distance in instructions, or an offset from a pointer.
    pub off: i16,
    /// The immediate operand.
    pub imm: i32,
}

impl Insn {
    /// Packs a destination and a source register the way the machine's bit fields lie.
    #[must_use]
    pub const fn registers(dst: u8, src: u8) -> u8 {
        if cfg!(target_endian = "little") {
            (src << 4) | (dst & 0xf)
        } else {
            (dst << 4) | (src & 0xf)
        }
    }
}

// Every attribute struct is longer than the kernel's `union bpf_attr`, zeros included. The kernel
// accepts that, and 6.17 to 7.1 write behind a shorter one in BPF_PROG_QUERY (fixed in 7.2).
const ATTR_SIZE: usize = 256;

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    rest: [u64; 23],
}

#[repr(C)]
struct ProgAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    pad: u32,
    rest: [u64; 29],
}

#[repr(C)]
struct ProgQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    rest: [u64; 28],
}

#[repr(C)]
struct GetFdById {
    id: u32,
    next_id: u32,
    open_flags: u32,
    pad: u32,
    rest: [u64; 30],
}

const _: () = assert!(size_of::<ProgLoad>() == ATTR_SIZE);
const _: () = assert!(size_of::<ProgAttach>() == ATTR_SIZE);
const _: () = assert!(size_of::<ProgQuery>() == ATTR_SIZE);
const _: () = assert!(size_of::<GetFdById>() == ATTR_SIZE);

/// Runs one command on an attribute struct of [`ATTR_SIZE`] bytes.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is one of the structs above, plain data of ATTR_SIZE bytes that the kernel
    // may read and write; the pointers in it are valid for the lengths beside them (callers below).
    check(unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>())
    })
}

/// The descriptor that `bpf` returned.
fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for the caller; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program. With `log`, the verifier writes its account
/// there, NUL-terminated text.
///
/// # Errors
/// `EINVAL`/`EACCES` (the verifier refuses it), `EPERM` (no `CAP_BPF`, or before Linux 5.11 a low
/// `RLIMIT_MEMLOCK`), `EAGAIN` (try again), `ENOSPC` (the log does not fit).
pub fn load_device_program(
    insns: &[Insn],
    license: &CStr,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let count =
        u32::try_from(insns.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let mut prog_name = [0; 16];
    prog_name[..13].copy_from_slice(b"gpurun_device");
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: count,
        insns: insns.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name,
        prog_ifindex: 0,
        expected_attach_type: BPF_CGROUP_DEVICE,
        rest: [0; 23],
    };
    if let Some(log) = log {
        attr.log_level = 1;
        attr.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    bpf(BPF_PROG_LOAD, &mut attr).map(owned)
}

/// Attaches a device program to the cgroup v2 directory `cgroup`; with `replace`, in the place of
/// that program, in one step.
///
/// # Errors
/// `EINVAL` (no `BPF_F_REPLACE` before Linux 5.6), `ENOENT` (`replace` is not attached here),
/// `EPERM`, `E2BIG` (64 programs).
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = ProgAttach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
        pad: 0,
        rest: [0; 29],
    };
    if let Some(old) = replace {
        attr.attach_flags |= BPF_F_REPLACE;
        attr.replace_bpf_fd = old.as_raw_fd() as u32;
    }
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// Detaches a device program from the cgroup v2 directory `cgroup`.
///
/// # Errors
/// `ENOENT` (not attached here), `EPERM`.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = ProgAttach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
        pad: 0,
        rest: [0; 29],
    };
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// The ids of the device programs attached to the cgroup v2 directory `cgroup` itself.
///
/// # Errors
/// `EINVAL` (not a cgroup v2 directory, or no cgroup BPF in the kernel), `EPERM`.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // BPF_CGROUP_MAX_PROGS is the most that one cgroup can hold.
    let mut ids = vec![0_u32; 64];
    let mut attr = ProgQuery {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        pad: 0,
        rest: [0; 28],
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// Opens a loaded program by its id.
///
/// # Errors
/// `ENOENT` (gone meanwhile), `EPERM` (no `CAP_SYS_ADMIN` in the first user namespace).
pub fn open_program(id: u32) -> io::Result<OwnedFd> {
    let mut attr = GetFdById { id, next_id: 0, open_flags: 0, pad: 0, rest: [0; 30] };
    bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).map(owned)
}
