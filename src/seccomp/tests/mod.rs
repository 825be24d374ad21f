//! Filters, run: in a small interpreter of classic BPF, beside libseccomp, and in the kernel.

mod behaviour;
mod kernel;
mod libseccomp;

use oci_spec::runtime::LinuxSeccomp;

use super::Arch;
use super::syscalls::{Number, lookup};

/// A profile from its JSON form, as an engine writes it.
fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).expect("profile")
}

/// A made-up profile with every kind of rule that Docker's has, for `archs` (JSON list).
fn everyday(archs: &str) -> LinuxSeccomp {
    profile(&format!(
        r#"{{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": {archs},
        "syscalls": [
          {{"action": "SCMP_ACT_ALLOW", "names": ["accept", "accept4", "arch_prctl", "bind", "brk",
            "breakpoint", "cacheflush", "close", "close_range", "connect", "dup", "dup2", "dup3",
            "execve", "exit", "exit_group", "fcntl", "fcntl64", "fork", "fstat", "fstat64",
            "futex", "futex_time64", "getpid", "ioctl", "ipc", "listen", "llseek", "_llseek",
            "lseek", "madvise", "mmap", "mmap2", "mprotect", "munmap", "no_such_call_at_all",
            "openat", "openat2", "read", "recv", "recvmmsg", "rt_sigaction", "rt_sigreturn",
            "semop", "send", "set_tls", "sendmmsg", "shmat", "socketcall", "waitpid", "write"]}},
          {{"action": "SCMP_ACT_ERRNO", "errnoRet": 38, "names": ["clone3"]}},
          {{"action": "SCMP_ACT_ALLOW", "names": ["clone"], "args": [
            {{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}}]}},
          {{"action": "SCMP_ACT_ALLOW", "names": ["personality"], "args": [
            {{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}}]}},
          {{"action": "SCMP_ACT_ALLOW", "names": ["personality"], "args": [
            {{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}}]}},
          {{"action": "SCMP_ACT_ALLOW", "names": ["personality"], "args": [
            {{"index": 0, "value": 4294967295, "op": "SCMP_CMP_EQ"}}]}},
          {{"action": "SCMP_ACT_ALLOW", "names": ["socket"], "args": [
            {{"index": 0, "value": 38, "op": "SCMP_CMP_LT"}}]}},
          {{"action": "SCMP_ACT_ALLOW", "names": ["socket"], "args": [
            {{"index": 0, "value": 39, "op": "SCMP_CMP_EQ"}}]}},
          {{"action": "SCMP_ACT_ALLOW", "names": ["socket"], "args": [
            {{"index": 0, "value": 40, "op": "SCMP_CMP_GT"}}]}},
          {{"action": "SCMP_ACT_LOG", "names": ["sync"]}},
          {{"action": "SCMP_ACT_TRACE", "errnoRet": 7, "names": ["ptrace"]}},
          {{"action": "SCMP_ACT_TRAP", "names": ["reboot"]}},
          {{"action": "SCMP_ACT_KILL_PROCESS", "names": ["kexec_load", "init_module"]}},
          {{"action": "SCMP_ACT_KILL_THREAD", "names": ["bpf"]}},
          {{"action": "SCMP_ACT_ERRNO", "names": ["mount"]}}
        ]}}"#
    ))
}

const X86_FAMILY: &str = r#"["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]"#;
const ARM_FAMILY: &str = r#"["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]"#;

/// Every ABI with a table.
const ARCHS: [Arch; 5] = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm];

/// What the filter sees as `nr` for call `name` on `arch`.
fn number(name: &str, arch: Arch) -> u32 {
    match lookup(name).and_then(|numbers| numbers.on(arch)) {
        Some(Number::Ordinary(number)) => arch.base() + u32::from(number),
        Some(Number::ArmPrivate(number)) => 0xf0000 + u32::from(number),
        None => panic!("{name} on {arch:?}"),
    }
}
