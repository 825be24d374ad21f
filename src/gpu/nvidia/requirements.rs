//! `NVIDIA_REQUIRE_…`: what an image demands of the machine.
//!
//! The variables must all hold. In a value, spaces stand between alternatives and commas between
//! conditions that hold together: `cuda>=12.2 brand=tesla,driver>=470`. A condition is a property
//! (`cuda`, `driver`, `arch`, `brand`), one of `= != < <= > >=` and a value; versions are compared
//! number by number.
//!
//! `driver` is the loaded module's version, `cuda` what the driver's libcuda says of itself in its
//! ELF note, where it has one. `arch` and `brand` are known to NVML only, so a condition on them is
//! undecided, as is one on a property that does not exist; an undecided requirement is not unmet.

use std::cmp::Ordering;
use std::fmt;

use super::config::Unmet;
use super::error::Error;
use crate::gpu::plan::Plan;
use crate::gpu::request::Asked;

const PREFIX: &str = "NVIDIA_REQUIRE_";
/// Not a requirement, but a choice of files on Jetson.
const JETPACK: &str = "NVIDIA_REQUIRE_JETPACK";
const DISABLE: &str = "NVIDIA_DISABLE_REQUIRE";

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Its name.
    variable: String,
    /// Its value.
    expression: String,
}

/// What is known of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The version of the driver, where it has one.
    pub driver: Option<String>,
    /// The version of CUDA that the driver has.
    pub cuda: Option<String>,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [("driver", &self.driver), ("CUDA", &self.cuda)];
        let known = known.into_iter().filter_map(|(what, version)| Some((what, version.as_ref()?)));
        let words: Vec<String> = known.map(|(what, version)| format!("{what} {version}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// The requirements of a container. Of an image from before the variables, `CUDA_VERSION` is one.
pub fn read(asked: &Asked<'_>, is_legacy: bool) -> Vec<Requirement> {
    let disabled = asked.variable(DISABLE).unwrap_or_default();
    // What Go's ParseBool takes for true.
    if ["1", "t", "T", "true", "TRUE", "True"].contains(&disabled) {
        return Vec::new();
    }
    let mut found: Vec<Requirement> = asked
        .variables(PREFIX)
        .into_iter()
        .filter(|(name, value)| !name.starts_with(JETPACK) && !value.trim().is_empty())
        .map(|(name, value)| Requirement {
            variable: name.to_owned(),
            expression: value.trim().to_owned(),
        })
        .collect();
    if let Some(version) = asked.variable("CUDA_VERSION").filter(|_| is_legacy) {
        let numbers: Vec<&str> = version.split('.').take(2).collect();
        found.push(Requirement {
            variable: "CUDA_VERSION".to_owned(),
            expression: format!("cuda>={}", numbers.join(".")),
        });
    }
    found
}

/// Whether some requirement speaks of the version of CUDA.
pub fn need_cuda(requirements: &[Requirement]) -> bool {
    requirements.iter().any(|one| one.expression.contains("cuda"))
}

/// Compares the requirements with the machine.
///
/// # Errors
/// With [`Unmet::Fatal`], a requirement that is not met or not understood; else a note says so.
pub fn check(
    requirements: &[Requirement],
    machine: &Machine,
    unmet: Unmet,
    plan: &mut Plan,
) -> Result<(), Error> {
    for one in requirements {
        let error = match evaluate(&one.expression, machine) {
            Ok(Verdict::Met) => continue,
            Ok(Verdict::Undecided) => {
                plan.notes.push(format!(
                    "{}={}: not checked, because gpurun does not know everything that it speaks of",
                    one.variable, one.expression
                ));
                continue;
            }
            Ok(Verdict::Unmet(condition)) => {
                Error::Unsatisfied { condition, present: machine.to_string() }
            }
            Err(expression) => Error::BadRequirement { variable: one.variable.clone(), expression },
        };
        match unmet {
            Unmet::Ignored => {}
            Unmet::Noted => plan.notes.push(error.to_string()),
            Unmet::Fatal => return Err(error),
        }
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Undecided,
    /// The first condition that does not hold.
    Unmet(String),
}

/// Evaluates a value; the error is the part that is not understood.
pub(super) fn evaluate(expression: &str, machine: &Machine) -> Result<Verdict, String> {
    let mut verdict: Option<Verdict> = None;
    // All of it is read, so that whether it is understood does not depend on the machine.
    for alternative in expression.split_whitespace() {
        let found = all_of(alternative, machine)?;
        verdict = match (verdict, found) {
            (None, found) => Some(found),
            (Some(Verdict::Met), _) | (_, Verdict::Met) => Some(Verdict::Met),
            (Some(Verdict::Undecided), _) | (_, Verdict::Undecided) => Some(Verdict::Undecided),
            (first, Verdict::Unmet(_)) => first,
        };
    }
    Ok(verdict.unwrap_or(Verdict::Met))
}

fn all_of(conditions: &str, machine: &Machine) -> Result<Verdict, String> {
    let mut verdict = Verdict::Met;
    for condition in conditions.split(',') {
        let holds = holds(condition, machine).ok_or_else(|| condition.to_owned())?;
        verdict = match (verdict, holds) {
            (Verdict::Unmet(first), _) => Verdict::Unmet(first),
            (_, Some(false)) => Verdict::Unmet(condition.to_owned()),
            (_, None) => Verdict::Undecided,
            (known, Some(true)) => known,
        };
    }
    Ok(verdict)
}

/// Whether one condition holds. The outer `None`: it is not understood; the inner: it is unknown.
fn holds(condition: &str, machine: &Machine) -> Option<Option<bool>> {
    let at = condition.find(['=', '!', '<', '>'])?;
    let (property, rest) = condition.split_at(at);
    let signs = rest.find(|c| !matches!(c, '=' | '!' | '<' | '>'))?;
    let (operator, value) = rest.split_at(signs);
    let compare: fn(Ordering) -> bool = match operator {
        "=" => Ordering::is_eq,
        "!=" => Ordering::is_ne,
        "<" => Ordering::is_lt,
        "<=" => Ordering::is_le,
        ">" => Ordering::is_gt,
        ">=" => Ordering::is_ge,
        _ => return None,
    };
    if property.is_empty() {
        return None;
    }
    let present = match property {
        "driver" => machine.driver.as_deref(),
        "cuda" => machine.cuda.as_deref(),
        _ => return Some(None),
    };
    let wanted = numbers(value)?;
    Some(present.and_then(numbers).map(|present| compare(compared(&present, &wanted))))
}

/// The numbers of a dotted version.
fn numbers(version: &str) -> Option<Vec<u32>> {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    version.split('.').map(|part| part.parse().ok().filter(|_| is_number(part))).collect()
}

/// Compares number by number; what is missing counts as 0.
fn compared(a: &[u32], b: &[u32]) -> Ordering {
    let at = |list: &[u32], index| list.get(index).copied().unwrap_or(0);
    (0..a.len().max(b.len()))
        .map(|index| at(a, index).cmp(&at(b, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Spec;

    fn machine(cuda: Option<&str>) -> Machine {
        Machine { driver: Some("535.104.05".to_owned()), cuda: cuda.map(str::to_owned) }
    }

    fn unmet(condition: &str) -> Result<Verdict, String> {
        Ok(Verdict::Unmet(condition.to_owned()))
    }

    #[test]
    fn spaces_are_or_and_commas_are_and() {
        let machine = machine(Some("12.2"));
        for (expression, expected) in [
            ("cuda>=12.2", Ok(Verdict::Met)),
            ("cuda>=12.9", unmet("cuda>=12.9")),
            ("cuda>12.2", unmet("cuda>12.2")),
            ("cuda<=12.2.0.0", Ok(Verdict::Met)),
            ("cuda=12.2.0", Ok(Verdict::Met)),
            ("cuda!=12.2", unmet("cuda!=12.2")),
            ("cuda<12.10", Ok(Verdict::Met)),
            ("driver>=535,driver<536", Ok(Verdict::Met)),
            ("driver>=470,driver<471", unmet("driver<471")),
            ("cuda>=12.9 driver>=535,driver<536", Ok(Verdict::Met)),
            ("cuda>=12.9 driver>=550", unmet("cuda>=12.9")),
            ("cuda>=12.9  brand=tesla,driver>=535,driver<536", Ok(Verdict::Undecided)),
            ("cuda>=12.9 brand=tesla,driver>=470,driver<471", unmet("cuda>=12.9")),
            ("brand=tesla driver>=1", Ok(Verdict::Met)),
            ("arch>=9.0", Ok(Verdict::Undecided)),
            ("colour=green", Ok(Verdict::Undecided)),
            ("", Ok(Verdict::Met)),
        ] {
            assert_eq!(evaluate(expression, &machine), expected, "{expression:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_undecided_but_the_rest_still_counts() {
        let machine = machine(None);
        assert_eq!(evaluate("cuda>=12.9", &machine), Ok(Verdict::Undecided));
        assert_eq!(evaluate("cuda>=12.9,driver>=550", &machine), unmet("driver>=550"));
    }

    #[test]
    fn what_is_no_condition_is_named() {
        for expression in [
            "cuda",
            "cuda>",
            "cuda=>1",
            "cuda==1",
            "=1",
            "cuda>=x",
            "cuda>=1.",
            "cuda>=+1",
            "cuda>=1,",
            "cuda>=99999999999",
        ] {
            assert!(evaluate(expression, &machine(Some("12.2"))).is_err(), "{expression}");
        }
        assert_eq!(evaluate("driver>=1 cuda~2", &machine(None)), Err("cuda~2".to_owned()));
    }

    fn of(env: &[&str], is_legacy: bool) -> Vec<String> {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env}
        }))
        .unwrap();
        let found = read(&Asked::of(&spec), is_legacy).into_iter();
        found.map(|one| format!("{}:{}", one.variable, one.expression)).collect()
    }

    #[test]
    fn every_variable_but_jetpack_counts_unless_they_are_turned_off() {
        let env = [
            "NVIDIA_REQUIRE_CUDA=cuda>=12.2",
            "NVIDIA_REQUIRE_DRIVER=driver>=1",
            "NVIDIA_REQUIRE_JETPACK=csv-mounts=all",
            "NVIDIA_REQUIRE_EMPTY=",
            "NVIDIA_REQUIRE_CUDA=cuda>=12.3",
        ];
        let all = ["NVIDIA_REQUIRE_CUDA:cuda>=12.3", "NVIDIA_REQUIRE_DRIVER:driver>=1"];
        assert_eq!(of(&env, false), all);
        for (value, is_off) in
            [("1", true), ("true", true), ("True", true), ("", false), ("0", false), ("yes", false)]
        {
            let disable = format!("NVIDIA_DISABLE_REQUIRE={value}");
            let env = [&env[..], &[disable.as_str()]].concat();
            assert_eq!(of(&env, false).is_empty(), is_off, "{value}");
        }
        assert_eq!(of(&["CUDA_VERSION=8.0.61"], true), ["CUDA_VERSION:cuda>=8.0"]);
    }
}
