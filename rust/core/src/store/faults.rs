//! Kills and errors at every step by which the stores change the file system.
//!
//! A test starts itself again as a child process that dies, or whose step fails, at the n-th step, for every n
//! until the work is done; after each the store must be what some commit made it.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use half::f16;

use crate::control::Control;
use crate::error::{Error, Result};

use super::{Batch, Spec, Store, TensorSpec, Writer, compact, gc, verify};

const FAULT: &str = "ILIAS_FAST_FAULT";
const WORK: &str = "ILIAS_FAST_FAULT_WORK";
const STORE: &str = "ILIAS_FAST_FAULT_STORE";
const DIM: usize = 4;

/// Whether a step failed.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Counts a step, and dies or fails there if this process is told to: `kill:n`, or an error number, `28:n`; then
/// all later ones fail too, or with `once` none.
pub(super) fn step() -> io::Result<()> {
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    static PLAN: OnceLock<Option<(String, usize)>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| {
        let plan = std::env::var(FAULT).ok()?;
        let (what, when) = plan.split_once(':')?;
        Some((what.to_owned(), when.parse().ok()?))
    });
    let Some((what, when)) = plan else { return Ok(()) };
    let now = STEPS.fetch_add(1, Ordering::SeqCst);
    if now < *when {
        return Ok(());
    }
    if what == "kill" {
        // Other threads that come here meanwhile start nothing, which might outlive this process for a moment and
        // hold its lock.
        if now == *when {
            let _ = Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
        }
        loop {
            std::thread::park();
        }
    }
    if what == "once" && now > *when {
        return Ok(());
    }
    FAILED.store(true, Ordering::SeqCst);
    let number = if what == "once" { "28" } else { what };
    Err(io::Error::from_raw_os_error(number.parse().expect("an error number")))
}

fn ids(rows: std::ops::Range<usize>) -> Vec<String> {
    rows.map(|row| format!("id{row}")).collect()
}

fn append(writer: &mut Writer, rows: std::ops::Range<usize>) -> Result<()> {
    let vectors: Vec<f16> = rows.clone().flat_map(|row| [f16::from_f32(row as f32); DIM]).collect();
    writer.append(&ids(rows), &Batch::Global(&vectors), &Control::new())
}

/// Commits, if need be at the second attempt.
fn commit(writer: &mut Writer) -> Result<()> {
    writer.commit().or_else(|error| writer.commit().map_err(|_| error)).map(drop)
}

fn open(path: &Path) -> Result<Writer> {
    let mut writer = Writer::open_append(path)?;
    writer.set_shard_bytes(400)?;
    Ok(writer)
}

/// The works that are disturbed; each may be begun again on what the last attempt left.
fn work(name: &str, path: &Path) -> Result<()> {
    match name {
        "create" => {
            let mut writer = Writer::create(path, Spec::global(DIM)?, "{}", None, true)?;
            writer.set_shard_bytes(400)?;
            append(&mut writer, 0..12)?;
            // A few at a time: they wait in memory, and go to the file while others come.
            for start in (12..30).step_by(2) {
                append(&mut writer, start..start + 2)?;
            }
            commit(&mut writer)
        }
        "append" => {
            let mut writer = open(path)?;
            for start in [30, 50] {
                append(&mut writer, start..start + 20)?;
                commit(&mut writer)?;
            }
            Ok(())
        }
        "delete" => open(path)?.delete(&ids(3..17)).map(drop),
        "attach" => {
            let mut writer = open(path)?;
            for shard in 0..writer.shards() {
                let rows = writer.shard(shard)?.rows();
                let numbers: Vec<i32> = (0..rows as i32).collect();
                writer.attach(
                    shard,
                    "planes",
                    "{}",
                    &[TensorSpec::new::<i32>("n", &[rows])],
                    |_, sink| sink.write("n", &numbers),
                )?;
            }
            Ok(())
        }
        "compact" => compact(path, 700, &Control::new()).map(drop),
        "gc" => gc(path).map(drop),
        other => panic!("unknown work {other}"),
    }
}

/// The rows a store may hold after each commit of a work, given those before.
fn allowed(name: &str, before: &[usize]) -> Vec<Vec<usize>> {
    let mut states = vec![before.to_vec()];
    match name {
        "create" => states.push((0..30).collect()),
        "append" => {
            for end in [50, 70] {
                states.push(before.iter().copied().chain(30..end).collect());
            }
        }
        "delete" => states.push(before.iter().copied().filter(|row| !(3..17).contains(row)).collect()),
        _ => {}
    }
    states
}

fn rows_of(path: &Path) -> Vec<usize> {
    let store = match Store::open(path) {
        Ok(store) => store,
        Err(Error::NotAStore { .. }) => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let rows: Vec<usize> = (0..store.len())
        .map(|row| store.id(row).unwrap().trim_start_matches("id").parse().unwrap())
        .collect();
    for (row, number) in rows.iter().enumerate() {
        assert!(store.vector(row).unwrap().iter().all(|value| *value == f16::from_f32(*number as f32)));
    }
    assert_eq!(store.find(&ids(0..80)).unwrap().iter().flatten().count(), rows.len());
    for shard in 0..store.shards() {
        if let Some(planes) = store.attached(shard, "planes").unwrap() {
            assert!(
                planes.tensor::<i32>("n").unwrap().1.iter().enumerate().all(|(row, n)| row == *n as usize)
            );
        }
    }
    let report = verify(path, false, &Control::new()).unwrap();
    assert!(report.damages.is_empty(), "{report:?}");
    rows
}

/// The child: does the work, with what `FAULT` says happening to it.
#[test]
#[ignore = "started by the other tests of this module"]
fn child() {
    let (Ok(name), Ok(store)) = (std::env::var(WORK), std::env::var(STORE)) else { return };
    let done = work(&name, Path::new(&store));
    if std::env::var(FAULT).is_ok_and(|fault| fault.starts_with("kill")) {
        done.unwrap();
    } else if let Err(error) = done {
        // Whatever fails is an error that names the file.
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        std::process::exit(77);
    } else if FAILED.load(Ordering::SeqCst) {
        std::process::exit(78);
    }
}

fn disturbed(name: &str, path: &Path, fault: &str) -> Option<i32> {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["store::faults::child", "--exact", "--ignored", "--nocapture"])
        .envs([(FAULT, fault), (WORK, name)])
        .env(STORE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.code()
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to.join("shards")).unwrap();
    for folder in ["", "shards"] {
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// Disturbs every work at every step with `fault`; returns how many times.
fn everywhere(fault: &str) -> usize {
    // A child that another thread is just starting would for a moment hold the locks of this process's writers.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let (whole, path) = (folder.path().join("whole"), folder.path().join("s"));
    std::fs::create_dir_all(whole.join("shards")).unwrap();
    let mut disturbances = 0;
    for name in ["create", "append", "delete", "attach", "compact", "attach", "gc"] {
        let before = rows_of(&whole);
        let allowed = allowed(name, &before);
        for step in 0.. {
            copy(&whole, &path);
            if name == "gc" {
                std::fs::write(path.join("shards/000099-x.safetensors"), b"left").unwrap();
                std::fs::write(path.join("shards/000098.safetensors.partial"), b"left").unwrap();
            }
            let code = disturbed(name, &path, &format!("{fault}:{step}"));
            let rows = rows_of(&path);
            assert!(allowed.contains(&rows), "{name} at step {step}: {rows:?}");
            if code == Some(0) {
                break;
            }
            match code {
                None => assert_eq!(fault, "kill", "{name} at step {step}"),
                // It went on nevertheless: what failed could be repeated, or was no more than tidying up.
                Some(78) => assert_eq!(Some(&rows), allowed.last(), "{name} at step {step}"),
                code => assert_eq!(code, Some(77), "{name} at step {step}"),
            }
            disturbances += 1;
            if !rows.is_empty() {
                gc(&path).unwrap();
                assert!(verify(&path, false, &Control::new()).unwrap().leftovers.is_empty());
                assert_eq!(rows_of(&path), rows);
            }
            // Whatever is left, the work can be done on it.
            if rows == before {
                work(name, &path).unwrap();
                assert_eq!(Some(&rows_of(&path)), allowed.last(), "{name} again after step {step}");
            }
        }
        work(name, &whole).unwrap();
    }
    disturbances
}

#[test]
fn killed_at_every_step() {
    let kills = everywhere("kill");
    assert!(kills > 150, "{kills} kills");
}

#[test]
fn no_space_left_at_every_step() {
    assert!(everywhere("28") > 100);
}

#[test]
fn no_space_left_for_a_while_at_every_step() {
    assert!(everywhere("once") > 100);
}

#[test]
fn input_output_errors_at_every_step() {
    assert!(everywhere("5") > 100);
}
