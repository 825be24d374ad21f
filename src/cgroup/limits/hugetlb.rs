//! `hugetlb.<size>.*`: what is in use, and (Linux 5.7) what is reserved.

use oci_spec::runtime::LinuxHugepageLimit;

use super::{CgroupError, Knobs, invalid};

pub(super) fn set(knobs: &Knobs, hugepage: &LinuxHugepageLimit) -> Result<(), CgroupError> {
    let size = page_size(hugepage.page_size())?;
    let value = match hugepage.limit() {
        -1 if knobs.v2 => "max".to_owned(),
        limit if limit >= -1 => limit.to_string(),
        limit => {
            let reason = format!("{limit} for {size} is neither -1 (no limit) nor positive");
            return Err(invalid("hugepageLimits.limit", reason));
        }
    };
    let suffix = if knobs.v2 { "max" } else { "limit_in_bytes" };
    knobs.write(&format!("hugetlb.{size}.{suffix}"), &value)?;
    // Without it a process that was let in by its reservation dies at the fault instead.
    knobs.write_if_present(&format!("hugetlb.{size}.rsvd.{suffix}"), &value)?;
    Ok(())
}

/// Checks the spec's form, digits without a leading zero and KB, MB or GB: it becomes part of a
/// file name.
fn page_size(size: &str) -> Result<&str, CgroupError> {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    match digits {
        Some(digits)
            if !digits.is_empty()
                && !digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(size)
        }
        _ => Err(invalid("hugepageLimits.pageSize", format!("{size:?} is not of the form 2MB"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_size_that_could_be_another_file_is_refused() {
        for good in ["2MB", "64KB", "1GB", "16GB"] {
            assert!(page_size(good).is_ok());
        }
        for bad in ["", "MB", "02MB", "2mb", "2TB", "../2MB", "2MB/..", "2 MB", "-1MB"] {
            assert!(page_size(bad).is_err(), "{bad}");
        }
    }
}
