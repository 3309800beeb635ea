//! Claims: who works on a cell, where hosts share a folder and nothing else: no scheduler, no lock service, no clock.
//!
//! A cell is worked on beside its place, in `seed-0.part-TOKEN`, and moved there when it is complete. The folder holds a
//! lease: host, process, and a count that its owner raises again and again. Whoever wants to go on with the work of
//! another must know that it has ended:
//!
//! - On one machine the owner holds a lock on the folder that ends with it, however it ends.
//! - From another machine, the owner counts as dead when its lease has not changed for its whole term. The term is
//!   measured by the clock of the one who waits, from when it first looked: clocks of two hosts are never compared, and
//!   one that jumps changes nothing.
//!
//! Taking over is a rename to a name with a new token: of several takers one succeeds. An owner that was only
//! slow finds its folder gone, cannot write anything by name any more, and stops; files that it has open are replaced by
//! copies. So no two processes ever write to one file, and where, after all, two run the same cell (both began in one
//! moment on a file system that is slow to tell), the second to finish finds the place taken by the same bytes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::train;

/// Name of the lease in a cell's working folder.
pub const LEASE: &str = "lease.json";

/// Time without a heartbeat after which the owner of a lease counts as dead.
pub const TERM: Duration = Duration::from_secs(60);

/// Between the name of a cell's folder and the token, in the name of its working folder.
const PART: &str = ".part-";

/// Who works in a folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Name of the host.
    pub host: String,
    /// Process on that host.
    pub pid: u32,
    /// The host's boot: unlike its name, no two machines share it.
    machine: String,
    /// Seconds after which an unchanged lease is void.
    term_s: f64,
    /// Heartbeats so far.
    beat: u64,
}

impl Lease {
    fn read(part: &Path) -> (Option<Self>, Vec<u8>) {
        let bytes = fs::read(part.join(LEASE)).unwrap_or_default();
        (serde_json::from_slice(&bytes).ok(), bytes)
    }

    /// For messages.
    pub fn who(&self) -> String {
        format!("process {} on {}", self.pid, self.host)
    }
}

/// Name of this host.
pub fn host() -> String {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or_else(|| "this host".to_owned(), |name| name.trim().to_owned())
}

/// This machine since it was started; locks are known to all processes of one.
fn machine() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| host(), |id| id.trim().to_owned())
}

/// Working folders of the cell whose place is `place`, by name. Usually there is one at most.
pub fn parts(place: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Vec::new() };
    let mut prefix = OsString::from(name);
    prefix.push(PART);
    let prefix = prefix.to_string_lossy().into_owned();
    let mut found: Vec<PathBuf> = parent
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// What can be known about a working folder at one look.
pub enum Owner {
    /// Nobody, any more.
    Nobody,
    /// Alive, on this machine.
    Alive(Lease),
    /// On a machine from which only heartbeats come; the bytes of the lease show them.
    Elsewhere(Lease, Vec<u8>),
}

/// Looks, and leaves no trace.
pub fn owner(part: &Path) -> Owner {
    let (lease, bytes) = Lease::read(part);
    let Ok(handle) = File::open(part) else { return Owner::Nobody };
    let lock = handle.try_lock_shared();
    match (lock, lease) {
        (Err(TryLockError::WouldBlock), lease) => Owner::Alive(lease.unwrap_or_else(|| unreadable(part))),
        // Without a lease its owner has not begun, or is about to move it to its place.
        (_, None) if bytes.is_empty() => Owner::Nobody,
        (Ok(()), Some(lease)) if lease.machine == machine() => Owner::Nobody,
        (_, lease) => Owner::Elsewhere(lease.unwrap_or_else(|| unreadable(part)), bytes),
    }
}

/// Stands for a lease that cannot be read: it is being written, or was damaged.
fn unreadable(part: &Path) -> Lease {
    let host = format!("the owner of {}", part.display());
    Lease { host, pid: 0, machine: String::new(), term_s: TERM.as_secs_f64(), beat: 0 }
}

/// Somebody who is at work anywhere below `folder`.
pub fn anyone(folder: &Path) -> Option<String> {
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().contains(PART) {
                match owner(&path) {
                    Owner::Alive(lease) | Owner::Elsewhere(lease, _) => return Some(lease.who()),
                    Owner::Nobody => {}
                }
            } else if depth < 2 && path.is_dir() {
                folders.push((path, depth + 1));
            }
        }
    }
    None
}

/// Watches leases of other machines, by this one's clock.
#[derive(Debug, Default)]
pub struct Watch(HashMap<PathBuf, (Vec<u8>, Instant)>);

impl Watch {
    /// Whether the lease of `part` has been the same, for its whole term, whenever this was asked.
    pub fn lapsed(&mut self, part: &Path, lease: &Lease, bytes: &[u8]) -> bool {
        let now = Instant::now();
        let (seen, since) = self.0.entry(part.to_owned()).or_insert_with(|| (bytes.to_owned(), now));
        if seen != bytes {
            (*seen, *since) = (bytes.to_owned(), now);
        }
        let term = Duration::try_from_secs_f64(lease.term_s).unwrap_or(TERM);
        now.duration_since(*since) > term
    }
}

/// The answer to a request.
pub enum Answer {
    /// The cell is ours.
    Ours(Claim),
    /// Somebody else has it.
    Taken(String),
    /// It has been completed meanwhile.
    Complete,
}

/// A claimed cell. The claim ends when this is dropped, or with the process, however it ends.
#[derive(Debug)]
pub struct Claim {
    /// Working folder.
    pub part: PathBuf,
    lost: Arc<AtomicBool>,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
    _lock: File,
}

/// Asks for the cell whose place is `place`. `lapsed` says of the lease of another machine whether it is void.
///
/// # Errors
/// When the folder cannot be written to.
pub fn request(
    place: &Path,
    term: Duration,
    mut lapsed: impl FnMut(&Path, &Lease, &[u8]) -> bool,
) -> Result<Answer> {
    if place.join("result.json").exists() {
        return Ok(Answer::Complete);
    }
    let parts = parts(place);
    let mut free = None;
    for part in &parts {
        let proven = match owner(part) {
            Owner::Nobody => true,
            Owner::Alive(lease) => return Ok(Answer::Taken(lease.who())),
            Owner::Elsewhere(lease, bytes) if !lapsed(part, &lease, &bytes) => {
                return Ok(Answer::Taken(lease.who()));
            }
            Owner::Elsewhere(..) => false,
        };
        free.get_or_insert((part, proven));
    }
    if let Some((part, proven)) = free {
        return take(place, part, proven, term);
    }
    if place.join("run.toml").exists() {
        // Of `steadfast train`, which works in place.
        return match owner(place) {
            Owner::Alive(_) => Ok(Answer::Taken("a `steadfast train`".to_owned())),
            _ => take(place, place, true, term),
        };
    }
    let part = new_name(place);
    let parent = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)
        .and_then(|()| fs::create_dir(&part))
        .with_context(|| format!("cannot create {}", part.display()))?;
    let others = |part: &Path| self::parts(place).iter().any(|other| other != part);
    match hold(part.clone(), term) {
        // Two that began in the same moment both step back, and try again.
        Some(claim) if !others(&part) && !place.join("result.json").exists() => Ok(Answer::Ours(claim)),
        Some(claim) => {
            drop(claim);
            // Another that has taken it for abandoned may have it now.
            let _ = fs::remove_dir(&part);
            Ok(Answer::Taken("a process that began in the same moment".to_owned()))
        }
        None => Ok(Answer::Taken("a process that began in the same moment".to_owned())),
    }
}

/// Goes on where the work in `old` ended. `proven`: its owner is dead, not just silent.
fn take(place: &Path, old: &Path, proven: bool, term: Duration) -> Result<Answer> {
    let taken = || Ok(Answer::Taken("a process that was faster".to_owned()));
    let part = new_name(place);
    if let Err(error) = fs::rename(old, &part) {
        // Gone means that another was faster.
        return if old.exists() {
            Err(error).with_context(|| format!("cannot rename {}", old.display()))
        } else {
            taken()
        };
    }
    let Some(claim) = hold(part.clone(), term) else { return taken() };
    if !proven {
        for name in train::NAMES {
            let (file, copy) = (part.join(name), part.join(format!(".steadfast-{name}")));
            if file.exists() {
                fs::copy(&file, &copy)
                    .and_then(|_| fs::rename(&copy, &file))
                    .with_context(|| format!("cannot copy {}", file.display()))?;
            }
        }
    }
    Ok(Answer::Ours(claim))
}

/// A name that no other process uses.
fn new_name(place: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let seed = format!("{} {} {now} {count}", machine(), std::process::id());
    let token = &blake3::hash(seed.as_bytes()).to_hex()[..8];
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!("{PART}{token}"));
    place.with_file_name(name)
}

/// Locks `part`, writes the lease and keeps it alive; `None` when the folder is gone or another process has locked it.
fn hold(part: PathBuf, term: Duration) -> Option<Claim> {
    let lock = File::open(&part).ok()?;
    // Where the file system knows no locks, leases remain.
    if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
        // Somebody who only looks is gone in a moment.
        std::thread::sleep(Duration::from_millis(20));
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            return None;
        }
    }
    let mut lease = Lease {
        host: host(),
        pid: std::process::id(),
        machine: machine(),
        term_s: term.as_secs_f64(),
        beat: 0,
    };
    beat(&part, &lease).ok()?;
    let lost = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = mpsc::channel();
    let (folder, flag) = (part.clone(), Arc::clone(&lost));
    let heart = std::thread::spawn(move || {
        while stopped.recv_timeout((term / 6).max(Duration::from_millis(10)))
            == Err(RecvTimeoutError::Timeout)
        {
            lease.beat += 1;
            // A full disk loses no claim; a folder that is gone does.
            if beat(&folder, &lease).is_err() && !folder.exists() {
                flag.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
    Some(Claim { part, lost, heart: Some((stop, heart)), _lock: lock })
}

fn beat(part: &Path, lease: &Lease) -> Result<()> {
    Ok(fs::write(part.join(LEASE), serde_json::to_vec(lease)?)?)
}

impl Claim {
    /// Whether another process has taken over.
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || !self.part.exists()
    }

    /// Ends the lease; the lock stays.
    pub fn end(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            // It never panics.
            let _ = heart.join();
            let _ = fs::remove_file(self.part.join(LEASE));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn ours(place: &Path, lapsed: bool) -> Claim {
        match request(place, TERM, |_, _, _| lapsed).unwrap() {
            Answer::Ours(claim) => claim,
            Answer::Taken(who) => panic!("taken by {who}"),
            Answer::Complete => panic!("complete"),
        }
    }

    fn taken(place: &Path) -> String {
        match request(place, TERM, |_, _, _| false).unwrap() {
            Answer::Taken(who) => who,
            _ => panic!("free"),
        }
    }

    #[test]
    fn a_cell_has_one_owner_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("ppo/E/seed-0");
        let first = ours(&place, false);
        assert!(taken(&place).starts_with(&format!("process {} on ", std::process::id())));
        // A neighbour, even one whose name begins alike, is another cell.
        drop(ours(&dir.path().join("ppo/E/seed-00"), false));
        fs::write(first.part.join("run.toml"), "work").unwrap();
        let name = first.part.clone();
        drop(first);
        let second = ours(&place, false);
        assert_ne!(second.part, name);
        assert_eq!(fs::read_to_string(second.part.join("run.toml")).unwrap(), "work", "goes on with it");
        assert_eq!(parts(&place), std::slice::from_ref(&second.part));
    }

    /// Of many threads that ask at once exactly one gets the cell, again and again.
    #[test]
    fn a_race_has_one_winner() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let place = dir.path().join(format!("seed-{round}"));
            let winners: Vec<Claim> = std::thread::scope(|scope| {
                let ask = || loop {
                    match request(&place, TERM, |_, _, _| false).unwrap() {
                        Answer::Ours(claim) => return Some(claim),
                        Answer::Taken(who) if who.starts_with("process") => return None,
                        _ => std::thread::yield_now(),
                    }
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
                threads.into_iter().filter_map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(winners.len(), 1);
            assert_eq!(parts(&place).len(), 1);
        }
    }

    /// An owner on another machine: no lock, another boot. It is left alone while its lease may be good; once it is void,
    /// it is fenced off: the slow owner can write to nothing that counts.
    #[test]
    fn a_silent_owner_is_taken_over_and_can_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("seed-0");
        let slow = ours(&place, false);
        slow._lock.unlock().unwrap();
        let lease = Lease { host: "far".into(), pid: 7, machine: "other".into(), term_s: 60.0, beat: 3 };
        beat(&slow.part, &lease).unwrap();
        let mut open = File::create(slow.part.join("eval.csv")).unwrap();
        open.write_all(b"header\n").unwrap();
        assert_eq!(taken(&place), "process 7 on far");
        assert!(!slow.lost());

        let quick = ours(&place, true);
        assert!(slow.lost() && !quick.lost());
        open.write_all(b"late\n").unwrap();
        assert_eq!(fs::read_to_string(quick.part.join("eval.csv")).unwrap(), "header\n");
        assert!(fs::write(slow.part.join("result.json"), "{}").is_err());
        assert!(beat(&slow.part, &lease).is_err());
        drop(slow);
        assert!(taken(&place).contains("process") && !quick.lost());
    }

    /// Dates and clocks mean nothing: only a lease that this process has seen unchanged for its term is void.
    #[test]
    fn clocks_that_jump_void_no_lease() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("seed-0.part-x");
        fs::create_dir(&part).unwrap();
        let mut lease = Lease { host: "far".into(), pid: 7, machine: "other".into(), term_s: 0.2, beat: 0 };
        let mut watch = Watch::default();
        let mut lapsed = |lease: &Lease| {
            beat(&part, lease).unwrap();
            for date in [UNIX_EPOCH, SystemTime::now() + Duration::from_secs(1 << 30)] {
                File::options().write(true).open(part.join(LEASE)).unwrap().set_modified(date).unwrap();
            }
            match owner(&part) {
                Owner::Elsewhere(lease, bytes) => watch.lapsed(&part, &lease, &bytes),
                _ => panic!("not elsewhere"),
            }
        };
        for _ in 0..4 {
            lease.beat += 1;
            assert!(!lapsed(&lease));
            std::thread::sleep(Duration::from_millis(150));
        }
        assert!(!lapsed(&lease));
        std::thread::sleep(Duration::from_millis(250));
        assert!(lapsed(&lease));
    }
}
