//! The order of names in a cache.

use std::cmp::Ordering;
use std::ffi::c_char;

/// Compares two names as glibc's loader does (`_dl_cache_libcmp`): byte by byte, but a run of
/// digits counts as a number and is greater than any other byte. A cache is sorted by this,
/// descending. `libx.so.10` is greater than `libx.so.9`; `libx.so.010` equals `libx.so.10`.
#[must_use]
pub fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        let (a, b) = (left.first().copied(), right.first().copied());
        match (a.is_some_and(|c| c.is_ascii_digit()), b.is_some_and(|c| c.is_ascii_digit())) {
            (true, true) => match number(&mut left).cmp(&number(&mut right)) {
                Ordering::Equal => continue,
                unequal => return unequal,
            },
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        // The end of a string is its NUL. C's char is signed or not as the architecture says.
        let unequal = (a.unwrap_or(0) as c_char).cmp(&(b.unwrap_or(0) as c_char));
        if unequal != Ordering::Equal || a.is_none() {
            return unequal;
        }
        left = left.get(1..).unwrap_or_default();
        right = right.get(1..).unwrap_or_default();
    }
}

/// Takes the digits off the front of `text`. glibc counts in an `int`, which wraps around.
fn number(text: &mut &[u8]) -> i32 {
    let mut value = 0i32;
    while let Some((digit, rest)) = text.split_first().filter(|(c, _)| c.is_ascii_digit()) {
        value = value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
        *text = rest;
    }
    value
}
