//! Every command beside every other on one container: both end in an orderly way, the loser says
//! why, and what is left is a whole container or none.

use integration_tests::container::text;
use integration_tests::{Config, Container, Output, Runtime, gpurun_only};
use std::time::Duration;

/// How often each pair meets; the second is a little later the second time.
const ROUNDS: u64 = 2;

/// In which state a command finds its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    None,
    Created,
    Running,
    Paused,
    Stopped,
}

use State::{Created, None, Paused, Running, Stopped};

/// A command, its arguments before the id and after it.
type Command = (&'static str, &'static [&'static str], &'static [&'static str]);

const CREATE: Command = ("create", &[], &[]);
const RUN: Command = ("run", &["--detach"], &[]);
const START: Command = ("start", &[], &[]);
const EXEC: Command = ("exec", &[], &["true"]);
const UPDATE: Command = ("update", &["--pids-limit", "40"], &[]);
const PAUSE: Command = ("pause", &[], &[]);
const RESUME: Command = ("resume", &[], &[]);
const KILL: Command = ("kill", &[], &["KILL"]);
const DELETE: Command = ("delete", &[], &[]);
const FORCE: Command = ("delete", &["--force"], &[]);
const STATE: Command = ("state", &[], &[]);

/// Which commands make sense in which state.
const MATRIX: [(State, &[Command]); 5] = [
    (None, &[CREATE, RUN, FORCE, STATE]),
    (Created, &[CREATE, START, EXEC, UPDATE, KILL, DELETE, FORCE, STATE]),
    (Running, &[RUN, EXEC, UPDATE, PAUSE, KILL, FORCE, STATE, START]),
    (Paused, &[RESUME, UPDATE, KILL, FORCE, STATE, PAUSE]),
    (Stopped, &[START, DELETE, FORCE, STATE, CREATE, EXEC]),
];

/// Commands of which only one can have its way with a container in a state.
const EXCLUSIVE: [(State, Command, Command); 7] = [
    (None, CREATE, CREATE),
    (None, CREATE, RUN),
    (None, RUN, RUN),
    (Created, START, START),
    (Created, DELETE, DELETE),
    (Stopped, DELETE, DELETE),
    (Running, PAUSE, PAUSE),
];

/// What a command that has lost may say.
const REASONS: [&str; 22] = [
    "already exists",
    "does not exist",
    "already running",
    "not running",
    "has stopped",
    "stopped container",
    "deleted while it was created",
    "deleted meanwhile",
    "at work on the container",
    "does not wait for a start",
    "paused",
    "not stopped",
    "ended",
    "has gone",
    "just stopped",
    "not finished",
    "init has",
    "killed",
    "No such process",
    "No such file or directory",
    "No such device",
    "never finished",
];

fn bring(c: &Container, state: State) {
    match state {
        None => {}
        Created => c.create().silent(),
        Running => c.run_detached(),
        Paused => {
            c.run_detached();
            c.call_on("pause", &[]).silent();
        }
        Stopped => {
            c.run_detached();
            c.stop();
        }
    }
}

fn arguments(c: &Container, (name, before, after): Command) -> Vec<String> {
    let bundle = c.bundle();
    let mut all = vec![name];
    if ["create", "run"].contains(&name) {
        all.extend(["--bundle", text(&bundle)]);
    }
    all.extend(before);
    all.push(c.id());
    all.extend(after);
    all.into_iter().map(str::to_owned).collect()
}

fn orderly(output: &Output) -> Result<(), String> {
    let said = &output.stderr;
    let one_line = said.trim().lines().count() == 1;
    let known = REASONS.iter().any(|reason| said.contains(reason));
    // What `exec` ran may have been killed with the container.
    if output.code == 0 || output.code == 137 || (one_line && known && !said.contains("panicked")) {
        return Ok(());
    }
    Err(format!("{output:?}"))
}

fn meet(
    c: &Container,
    state: State,
    first: Command,
    second: Command,
    round: u64,
) -> Result<(), String> {
    bring(c, state);
    let start = |command| {
        let args = arguments(c, command);
        c.start_call(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let one = start(first);
    std::thread::sleep(Duration::from_millis(round * 3));
    let other = start(second);
    let (one, other) = match (first == PAUSE, second == PAUSE) {
        // An `exec` may have been frozen half-way, and ends when the container goes on.
        (true, false) => {
            let one = one.wait();
            let _ = c.call_on("resume", &[]);
            (one, other.wait())
        }
        (false, true) => {
            let other = other.wait();
            let _ = c.call_on("resume", &[]);
            (one.wait(), other)
        }
        _ => (one.wait(), other.wait()),
    };
    orderly(&one)?;
    orderly(&other)?;
    let names = |it: &(State, Command, Command)| {
        it.0 == state && [(it.1, it.2), (it.2, it.1)].contains(&(first, second))
    };
    let wins = usize::from(one.code == 0) + usize::from(other.code == 0);
    if EXCLUSIVE.iter().any(names) && wins != 1 {
        return Err(format!("{wins} of the two succeed: {one:?}, {other:?}"));
    }
    // A container that is there is a whole one.
    let shown = c.call_on("state", &[]);
    if shown.code == 0 {
        let status = shown.json()["status"].as_str().unwrap_or_default().to_owned();
        if !["created", "running", "paused", "stopped"].contains(&&*status) {
            return Err(format!("it is {status:?}: {one:?}, {other:?}"));
        }
    } else if !shown.stderr.contains("does not exist") {
        return Err(format!("{shown:?}"));
    }
    let deleted = c.delete(&["--force"]);
    if deleted.code != 0 {
        return Err(format!("{deleted:?}"));
    }
    c.assert_gone();
    Ok(())
}

#[test]
fn every_pair_of_commands_at_once_ends_in_an_orderly_way() {
    gpurun_only!("runc has no lock");
    let mut failures = Vec::new();
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        // On v2 there may be no controller to limit processes with.
        c.run_detached();
        let can_limit = c.cgroup("pids", "pids.max").is_some();
        c.delete(&["--force"]).silent();
        for (state, commands) in MATRIX {
            let usable = |command: &&Command| command.0 != "update" || can_limit;
            for (number, first) in commands.iter().filter(usable).enumerate() {
                for second in commands.iter().filter(usable).skip(number) {
                    for round in 0..ROUNDS {
                        if let Err(reason) = meet(&c, state, *first, *second, round) {
                            let pair = format!("{state:?}: {first:?} and {second:?}");
                            eprintln!("{pair}: {reason}");
                            failures.push(format!("{pair}: {reason}"));
                            let _ = c.delete(&["--force"]);
                        }
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
