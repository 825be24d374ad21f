//! Runs a device program as the kernel would.

use super::program::*;
use super::{Access, DeviceType};
use crate::sys::bpf::Insn;

/// The program's verdict; panics on what the kernel's verifier would refuse.
pub(super) fn run(
    program: &[Insn],
    kind: DeviceType,
    major: u32,
    minor: u32,
    access: Access,
) -> bool {
    let context = [u32::from(kind_number(kind)) | u32::from(access.bits()) << 16, major, minor];
    let mut reg = [0_u64; 11];
    let mut at = 0_usize;
    for _ in 0..=program.len() {
        let insn = program[at];
        let (dst, src) = ((insn.regs & 0xf) as usize, (insn.regs >> 4) as usize);
        let value = i64::from(insn.imm) as u64;
        at += 1;
        let jump = match insn.code {
            LOAD_WORD => {
                assert_eq!(src, 1);
                reg[dst] = u64::from(context[insn.off as usize / 4]);
                false
            }
            MOVE => {
                reg[dst] = value;
                false
            }
            MOVE_REG => {
                reg[dst] = reg[src];
                false
            }
            AND => {
                reg[dst] &= value;
                false
            }
            SHIFT_RIGHT => {
                reg[dst] >>= value;
                false
            }
            JUMP => true,
            JUMP_GREATER => reg[dst] > value,
            JUMP_LESS => reg[dst] < value,
            JUMP_NOT_EQUAL => reg[dst] != value,
            JUMP_SET => reg[dst] & value != 0,
            EXIT => return reg[0] == 1,
            other => panic!("unknown instruction {other:#x}"),
        };
        if jump {
            at += usize::try_from(insn.off).unwrap();
        }
    }
    panic!("the program does not end");
}
