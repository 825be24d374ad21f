use std::path::PathBuf;

use serde_json::json;

use super::*;

/// A directory that stands in for a cgroup.
struct Made(PathBuf);

impl Made {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("gpurun-stats-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        Self(dir)
    }

    fn counters(&self, v2: bool) -> Counters {
        Counters { dir: Some(self.0.clone()), v2 }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn value(of: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(of).unwrap()
}

#[test]
fn processor_time_is_in_nanoseconds_on_both_versions() {
    let stat = "usage_usec 30\nuser_usec 20\nsystem_usec 10\n\
                nr_periods 4\nnr_throttled 2\nthrottled_usec 7\n";
    let pressure = "some avg10=1.50 avg60=0.00 avg300=0.00 total=99\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    let v2 = Made::new("cpu2", &[("cpu.stat", stat), ("cpu.pressure", pressure)]);
    let got = value(&cpu::read(&v2.counters(true), &v2.counters(true)).unwrap());
    assert_eq!(got["usage"], json!({"total": 30_000, "kernel": 10_000, "user": 20_000}));
    let throttling = json!({"periods": 4, "throttledPeriods": 2, "throttledTime": 7000});
    assert_eq!(got["throttling"], throttling);
    assert_eq!(
        (&got["psi"]["some"]["avg10"], &got["psi"]["some"]["total"]),
        (&json!(1.5), &json!(99))
    );
    let v1 = Made::new(
        "cpu1",
        &[
            ("cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"),
            ("cpuacct.usage", "77\n"),
            ("cpuacct.stat", "user 2\nsystem 1\n"),
            ("cpuacct.usage_percpu", "70 7 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 60 10\n1 7 0\n"),
        ],
    );
    let got = value(&cpu::read(&v1.counters(false), &v1.counters(false)).unwrap());
    let usage = json!({"total": 77, "percpu": [70, 7], "percpu_kernel": [10, 0],
                       "percpu_user": [60, 7], "kernel": 10_000_000, "user": 20_000_000});
    assert_eq!(got, json!({"usage": usage}));
}

#[test]
fn swap_of_v2_is_reported_together_with_memory() {
    let made = Made::new(
        "memory",
        &[
            ("memory.stat", "anon 5\nfile 8\n"),
            ("memory.current", "100\n"),
            ("memory.max", "1000\n"),
            ("memory.peak", "300\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "500\n"),
            ("memory.swap.peak", "20\n"),
        ],
    );
    let usage = json!({"limit": 1000, "usage": 100, "max": 300, "failcnt": 0});
    let swap = json!({"limit": 1500, "usage": 110, "failcnt": 0});
    let raw = json!({"anon": 5, "file": 8});
    let expected = json!({"cache": 8, "usage": usage, "swap": swap, "raw": raw});
    assert_eq!(value(&memory::read(&made.counters(true)).unwrap()), expected);
    std::fs::write(made.0.join("memory.max"), "max\n").unwrap();
    std::fs::write(made.0.join("memory.swap.max"), "max\n").unwrap();
    let got = memory::read(&made.counters(true)).unwrap();
    assert_eq!((got.usage.limit, got.swap.limit), (u64::MAX, u64::MAX));
}

#[test]
fn no_limit_on_processes_is_0_and_without_the_controller_they_are_counted() {
    let made = Made::new("pids", &[("pids.current", "3\n"), ("pids.max", "max\n")]);
    assert_eq!(value(&pids::read(&made.counters(true)).unwrap()), json!({"current": 3}));
    let made = Made::new("procs", &[("cgroup.procs", "1\n2\n")]);
    assert_eq!(pids::read(&made.counters(true)).unwrap().current, 2);
}

#[test]
fn block_devices_are_in_the_tables_of_v1() {
    let stat = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n8:16 \n";
    let made = Made::new("io", &[("io.stat", stat)]);
    let got = value(&io::read(&made.counters(true)).unwrap());
    let write = json!({"major": 8, "op": "Write", "value": 2});
    assert_eq!(got["ioServiceBytesRecursive"][1], write);
    assert_eq!(got["ioServicedRecursive"][0]["value"], 3);
    let made = Made::new(
        "blkio",
        &[
            ("blkio.throttle.io_serviced", "8:0 Read 5\n8:0 Total 5\nTotal 5\n"),
            ("blkio.throttle.io_service_bytes", "8:0 Read 512\nTotal 512\n"),
        ],
    );
    let got = io::read(&made.counters(false)).unwrap();
    assert_eq!(got.io_serviced_recursive.len(), 2);
    assert_eq!(got.io_service_bytes_recursive[0].value, 512);
}

#[test]
fn huge_pages_are_found_by_their_files() {
    let made = Made::new(
        "hugetlb",
        &[
            ("hugetlb.2MB.current", "1"),
            ("hugetlb.2MB.rsvd.current", "2097152"),
            ("hugetlb.2MB.events", "max 4\n"),
        ],
    );
    let got = value(&hugetlb::read(&made.counters(true)).unwrap());
    assert_eq!(got, json!({"2MB": {"usage": 2_097_152, "failcnt": 4}}));
}

#[test]
fn lists_of_processors_are_unfolded_and_bounded() {
    assert_eq!(cpuset::parse_list("0-2,7"), Some(vec![0, 1, 2, 7]));
    assert_eq!(cpuset::parse_list(""), Some(vec![]));
    for bad in ["3-1", "x", "0-65535", "-1"] {
        assert_eq!(cpuset::parse_list(bad), None, "{bad}");
    }
}

#[test]
fn what_the_machine_lacks_leaves_zeros_and_what_cannot_be_understood_names_the_file() {
    let none = Counters { dir: None, v2: false };
    assert_eq!(memory::read(&none).unwrap(), Memory::default());
    assert_eq!(value(&cpu::read(&none, &none).unwrap()), json!({}));
    let made = Made::new("bad", &[("pids.current", "many\n")]);
    let err = pids::read(&made.counters(false)).unwrap_err().to_string();
    assert!(err.contains("pids.current") && err.contains("many"), "{err}");
}
