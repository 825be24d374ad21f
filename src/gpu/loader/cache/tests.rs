//! Tests of the cache against ldconfig's own files and against damage.

use std::process::Command;

use super::*;

fn entry(name: &str, path: &str) -> Entry {
    Entry { name: name.into(), path: path.into(), flags: 0x0303 }
}

fn driver() -> Vec<Entry> {
    vec![
        entry("libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"),
        entry("libcuda.so", "/usr/lib/x86_64-linux-gnu/libcuda.so"),
        entry("libnvidia-ml.so.1", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"),
        entry("libcuda.so.550.54.14", "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14"),
        entry("libzz-alias.so.1", "/opt/lib/libother.so.7"),
    ]
}

fn names(cache: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let table = read::read(cache).expect("a readable cache");
    table.rows.iter().map(|row| (text(row.name), text(row.path))).collect()
}

/// What `ldconfig -p` says about a cache, without its first and last line. `None`: no ldconfig.
fn ldconfig_lists(cache: &[u8], tag: &str) -> Option<Vec<String>> {
    let path = std::env::temp_dir().join(format!("gpurun-cache-{}-{tag}", std::process::id()));
    std::fs::write(&path, cache).unwrap();
    let output = Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(&path).output();
    std::fs::remove_file(&path).unwrap();
    let output = output.ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().filter(|line| line.starts_with('\t')).map(str::to_owned).collect())
}

#[test]
fn names_are_ordered_as_the_loader_orders_them() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    for (left, right, expected) in [
        ("libx.so.10", "libx.so.9", Greater),
        ("libx.so.010", "libx.so.10", Equal),
        ("libx.so.1", "libx.so", Greater),
        ("libx1.so", "libxa.so", Greater),
        ("liba.so", "libb.so", Less),
        ("libx.so.4294967297", "libx.so.1", Equal),
        ("", "", Equal),
    ] {
        assert_eq!(compare(left.as_bytes(), right.as_bytes()), expected, "{left} {right}");
        assert_eq!(compare(right.as_bytes(), left.as_bytes()), expected.reverse());
    }
}

#[test]
fn this_machines_cache_is_read_and_written_back_the_same() {
    let Ok(system) = std::fs::read("/etc/ld.so.cache") else {
        println!("skipped: no /etc/ld.so.cache here");
        return;
    };
    let again = extend(Some(&system), &[]);
    assert_eq!(names(&system), names(&again));
    let table = read::read(&system).unwrap();
    assert!(table.rows.is_sorted_by(|a, b| compare(a.name, b.name).is_ge()));
    let (Some(theirs), Some(ours)) = (ldconfig_lists(&system, "a"), ldconfig_lists(&again, "b"))
    else {
        println!("skipped: no ldconfig here");
        return;
    };
    assert_eq!(theirs, ours);
}

#[test]
fn the_drivers_libraries_are_added_in_front_and_nothing_else_changes() {
    let system = std::fs::read("/etc/ld.so.cache").ok();
    let mut add = driver();
    add.push(entry("libc.so.6", "/opt/lib/libc.so.6"));
    let extended = extend(system.as_deref(), &add);
    let Some(listed) = ldconfig_lists(&extended, "c") else {
        println!("skipped: no ldconfig here");
        return;
    };
    for wanted in &add {
        let name = String::from_utf8_lossy(&wanted.name);
        let line = format!("\t{name} (libc6,x86-64) => {}", String::from_utf8_lossy(&wanted.path));
        let first = listed.iter().find(|seen| seen.starts_with(&format!("\t{name} (")));
        assert_eq!(first, Some(&line));
    }
    if let Some(system) = system {
        let before = ldconfig_lists(&system, "d").unwrap();
        let rest: Vec<String> = listed.into_iter().filter(|line| before.contains(line)).collect();
        assert_eq!(rest, before);
    }
}

#[test]
fn extending_twice_is_extending_once() {
    let system = std::fs::read("/etc/ld.so.cache").ok();
    for existing in [None, system.as_deref(), Some(b"garbage".as_slice())] {
        let once = extend(existing, &driver());
        assert_eq!(once, extend(Some(&once), &driver()));
    }
}

#[test]
fn entries_of_an_earlier_driver_are_taken_out() {
    let rows = vec![Row {
        name: b"liba.so.1",
        path: b"/lib/liba.so.1",
        flags: 0x0303,
        osversion: 0,
        hwcap: 0,
    }];
    let image = write::write(&Table { rows, original: Some(b""), ..Table::default() });
    let image = as_ldconfig_would(image);
    let old = extend(Some(&image), &[entry("libcuda.so.535", "/usr/lib64/libcuda.so.535")]);
    let new = extend(Some(&old), &[entry("libcuda.so.550", "/usr/lib64/libcuda.so.550")]);
    let listed: Vec<String> = names(&new).into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, ["libcuda.so.550", "liba.so.1"]);
}

#[test]
fn a_cache_knows_what_was_there_before() {
    let system = std::fs::read("/etc/ld.so.cache").ok();
    for original in [Some(b"".as_slice()), Some(b"garbage"), Some(OLD_MAGIC), system.as_deref()] {
        let once = extend(original, &driver());
        let twice = extend(Some(&once), &driver()[..2]);
        for cache in [&once, &twice] {
            assert_eq!(origin(cache), original.map_or(Origin::New, Origin::Extended));
        }
        if let Some(original) = original {
            assert_eq!(origin(original), Origin::Foreign);
        }
    }
    assert_eq!(origin(&extend(Some(&extend(None, &driver())), &[])), Origin::New);
}

#[test]
fn both_formats_come_back_when_the_image_had_both() {
    let mut table = read::read(b"glibc-ld.so.cache1.1").unwrap_or_default();
    table.with_old = true;
    let hwcap = 1 << 62;
    let row = |name, path, hwcap| Row { name, path, flags: 0x0303, osversion: 0, hwcap };
    table.rows = vec![
        row(b"libz.so.1", b"/lib/glibc-hwcaps/x86-64-v3/libz.so.1", hwcap),
        row(b"libz.so.1", b"/lib/libz.so.1", 0),
        row(b"liba.so.1", b"/lib/liba.so.1", 0),
        row(b"liba.so", b"/lib/liba.so", 0),
    ];
    table.hwcaps = vec![b"x86-64-v3"];
    table.generator = Some(b"test");
    let image = as_ldconfig_would(write::write(&table));
    assert!(image.starts_with(OLD_MAGIC));
    let extended = extend(Some(&image), &driver());
    assert!(extended.starts_with(OLD_MAGIC));
    let read = read::read(&extended).unwrap();
    assert!(read.with_old);
    assert_eq!(read.hwcaps, [b"x86-64-v3"]);
    assert_eq!(read.generator, Some(b"test".as_slice()));
    assert_eq!(read.rows.len(), 4 + driver().len());
    assert_eq!(read.rows.iter().filter(|row| row.hwcap == hwcap).count(), 1);
    // The old table alone holds the same, without the entry for optional hardware.
    let start = OLD_HEADER + OLD_ENTRY * 8;
    let mut old_alone = extended.clone();
    old_alone[start..start + 4].copy_from_slice(b"none");
    let old: HashSet<_> = names(&old_alone).into_iter().collect();
    let new: HashSet<_> = names(&extended).into_iter().collect();
    assert_eq!(old.len(), new.len() - 1);
    assert!(old.is_subset(&new));
    if let Some(listed) = ldconfig_lists(&extended, "e") {
        assert_eq!(listed.len(), 4 + driver().len());
        assert!(listed.iter().any(|line| line.contains("x86-64-v3")), "{listed:?}");
    }
}

#[test]
fn a_cache_of_the_other_byte_order_counts_as_none() {
    let mut cache = extend(None, &driver());
    cache[28] = 3;
    assert!(read::read(&cache).is_none());
}

#[test]
fn strings_that_overlap_a_thousandfold_are_refused() {
    let long = vec![b'a'; 4000];
    let entry = Entry { name: long.clone(), path: long, flags: 0x0303 };
    let mut cache = extend(None, &[entry]);
    let row = cache[NEW_HEADER..NEW_HEADER + NEW_ENTRY].to_vec();
    let mut bomb = cache[..NEW_HEADER].to_vec();
    let count = 2000u32;
    bomb[20..24].copy_from_slice(&count.to_le_bytes());
    for _ in 0..count {
        let mut row = row.clone();
        let at = (NEW_HEADER + count as usize * NEW_ENTRY) as u32;
        row[4..8].copy_from_slice(&at.to_le_bytes());
        row[8..12].copy_from_slice(&at.to_le_bytes());
        bomb.extend_from_slice(&row);
    }
    bomb.extend(cache.split_off(NEW_HEADER + NEW_ENTRY));
    assert!(read::read(&bomb).is_none());
    assert!(extend(Some(&bomb), &driver()).len() < bomb.len() + 4096);
}

#[test]
fn no_damage_makes_it_panic_or_grow_or_lose_the_driver() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let table = Table {
        with_old: true,
        rows: vec![Row {
            name: b"liba.so.1",
            path: b"/lib/liba.so.1",
            flags: 0x0303,
            osversion: 0,
            hwcap: 0,
        }],
        hwcaps: vec![b"x86-64-v2", b"x86-64-v3"],
        generator: Some(b"test"),
        original: None,
    };
    let image = as_ldconfig_would(write::write(&table));
    let originals = [extend(None, &driver()), image.clone(), extend(Some(&image), &driver())];
    for round in 0..40_000 {
        let mut cache = originals[round % 3].clone();
        for _ in 0..1 + random() % 4 {
            let at = random() as usize % cache.len();
            match random() % 4 {
                0 => cache[at] = random() as u8,
                1 => cache.truncate(at.max(1)),
                2 => cache[at] = 0xff,
                _ => {
                    let end = (at + 4).min(cache.len());
                    cache[at..end].fill((random() % 2 * 255) as u8);
                }
            }
        }
        let extended = extend(Some(&cache), &driver());
        assert!(extended.len() < 16 * 1024, "{}", extended.len());
        let table = read::read(&extended).expect("what was written can be read");
        for wanted in driver() {
            let first = table.rows.iter().find(|row| row.name == wanted.name);
            assert!(first.is_some_and(|row| row.path == wanted.path), "round {round}");
        }
    }
}

/// The same cache as ldconfig would have written it: without gpurun's section.
fn as_ldconfig_would(mut cache: Vec<u8>) -> Vec<u8> {
    let at = cache.windows(4).position(|word| word == TAG_ORIGINAL.to_le_bytes()).unwrap();
    cache[at] = 0xff;
    assert_eq!(origin(&cache), Origin::Foreign);
    cache
}

#[test]
fn what_is_made_of_a_hostile_cache_can_be_read_by_the_next_run() {
    let file = |length: usize| {
        // Old entries, which become three times as long, all with the same two strings.
        const ROWS: u32 = 20_000;
        let mut file = [OLD_MAGIC, b"\0", &ROWS.to_le_bytes()].concat();
        for _ in 0..ROWS {
            let path = u32::try_from(length + 1).unwrap();
            file.extend([0x0303_u32, 0, path].into_iter().flat_map(u32::to_le_bytes));
        }
        [file, vec![b'a'; length], b"\0".to_vec(), vec![b'b'; length], b"\0".to_vec()].concat()
    };
    // The longest that are taken over are among these.
    for image in (1..30).map(file) {
        let made = extend(Some(&image), &[]).len();
        let most = image.len() * usize::try_from(READ_LIMIT / super::super::READ_LIMIT).unwrap();
        assert!(made <= most, "{} bytes became {made}", image.len());
    }
}
