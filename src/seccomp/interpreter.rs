//! A classic BPF interpreter, as the kernel's seccomp runs it.

use libc::sock_filter;

/// The kernel's `struct seccomp_data`, without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub arch: u32,
    pub nr: u32,
    pub args: [u64; 6],
}

/// What `program` answers to `call`; panics on what the kernel's checker would not load.
pub fn run(program: &[sock_filter], call: &Call) -> u32 {
    let load = |offset: u32| match offset {
        0 => call.nr,
        4 => call.arch,
        16..64 if offset.is_multiple_of(4) => {
            let arg = call.args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
        _ => panic!("load at {offset}"),
    };
    let (mut a, mut pc) = (0u32, 0usize);
    loop {
        let sock_filter { code, jt, jf, k } = program[pc];
        pc += 1;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            0x20 => a = load(k),
            0x54 => a &= k,
            0x05 => pc += k as usize,
            0x15 => pc += branch(a == k),
            0x25 => pc += branch(a > k),
            0x35 => pc += branch(a >= k),
            0x45 => pc += branch(a & k != 0),
            0x06 => return k,
            _ => panic!("instruction {code:#x} at {}", pc - 1),
        }
    }
}
