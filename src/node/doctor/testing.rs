//! Made-up machines for the tests beside this file.

use super::{Caller, Machine};
use crate::finding::Finding;
use crate::host::testing::Scratch;
use crate::host::{Host, Settings, Tree};

/// A directory with `proc`, `sys`, `dev` and `root` in it.
pub struct MadeUp {
    /// Its files.
    pub files: Scratch,
    /// The configuration's text.
    pub config: String,
    /// Who asks.
    pub uid: u32,
}

impl MadeUp {
    /// An empty machine, seen by root.
    pub fn new() -> Self {
        let files = Scratch::new();
        for dir in ["proc", "sys", "dev", "root/etc"] {
            files.directory(dir);
        }
        Self { files, config: String::new(), uid: 0 }
    }

    /// The machine as the checks see it.
    pub fn machine(&self) -> Machine {
        let at = |name: &str| self.files.path().join(name);
        let tables = crate::gpu::tables();
        Machine {
            settings: Settings::parse("/c".as_ref(), self.config.clone(), &tables).unwrap(),
            host: Host::at(at("proc"), at("sys"), at("dev")).unwrap(),
            root: Tree::open(&at("root")).unwrap(),
            caller: Caller {
                uid: self.uid,
                name: Some(if self.uid == 0 { "root".to_owned() } else { "alice".to_owned() }),
                home: Some("/home/alice".into()),
                runtime_dir: Some("/run/user/1000".into()),
            },
        }
    }
}

/// Expects a finding with this check, verdict, and these words in what was found and the remedy.
#[track_caller]
pub fn expect(found: &[Finding], check: &str, word: &str, words: &str, remedy: &str) {
    let Some(one) = found.iter().find(|one| one.check == check && one.found.contains(words)) else {
        panic!("no {check} with {words:?}: {found:#?}");
    };
    assert_eq!(one.verdict.word(), word, "{one:?}");
    assert!(one.verdict.remedy().unwrap_or_default().contains(remedy), "{one:?}");
    assert_eq!(one.verdict.remedy().is_none(), word == "green", "{one:?}");
}

/// Expects that nothing is worse than green.
#[track_caller]
pub fn all_green(found: &[Finding]) {
    assert!(found.iter().all(|one| one.verdict.word() == "green"), "{found:#?}");
}
