//! `manual DIR`: writes `DIR/man/*.8`, `DIR/completions/*` and `DIR/config.toml`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use manual::{completions, configuration, pages};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(directory), None) = (args.next(), args.next()) else {
        eprintln!("usage: manual DIR");
        return ExitCode::from(2);
    };
    match write(&PathBuf::from(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    for (folder, files) in [("man", pages::all()?), ("completions", completions::all())] {
        let folder = directory.join(folder);
        fs::create_dir_all(&folder)?;
        for (name, content) in files {
            fs::write(folder.join(name), content)?;
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let example = configuration::example(&fs::read_to_string(page)?);
    fs::write(directory.join("config.toml"), example.map_err(io::Error::other)?)
}
