//! What an earlier run left behind: a PostgreSQL whose service was killed, backends whose
//! postmaster was killed, files that name processes that are gone or are others by now.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::error::PostgresError;
use super::place::Place;

/// How long a postmaster may take to end after SIGINT, and again after SIGQUIT (upon which it
/// waits 5 s for its children before it kills them).
pub(super) const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// Stops a server that still runs on the cluster, and removes the files of one that does not.
/// To be called only by the holder of the service's lock: nobody else starts servers there.
pub(super) async fn clear(place: &Place) -> Result<(), PostgresError> {
    let pid_file = place.pgdata.join("postmaster.pid");
    // The socket's lock too: somebody may have removed postmaster.pid under a running server.
    for file in [&pid_file, &place.socket_lock()] {
        let Some(named) = read_pid(file) else {
            continue;
        };
        let Some(pid) = Pid::from_raw(named.saturating_abs()) else {
            continue;
        };
        if !works_on(pid, place) {
            continue;
        }
        if named < 0 {
            // PostgreSQL's own mark of a single-user session.
            let (pgdata, pid) = (place.pgdata.clone(), pid.as_raw_pid());
            return Err(PostgresError::SingleUser { pgdata, pid });
        }
        stop_orphan(pid, place).await?;
    }
    for stale in [&pid_file, &place.socket(), &place.socket_lock()] {
        match fs::remove_file(stale) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(PostgresError::io("remove the stale file", stale)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The process id in the first line of a PostgreSQL lock file. Without one the file is stale.
fn read_pid(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

async fn stop_orphan(pid: Pid, place: &Place) -> Result<(), PostgresError> {
    tracing::warn!(
        pid = pid.as_raw_pid(),
        "a PostgreSQL of an earlier run still works on {}: stopping it",
        place.pgdata.display(),
    );
    for signal in [Signal::INT, Signal::QUIT] {
        // A failure shows below: the process stays, or is gone already.
        let _ = kill_process(pid, signal);
        let deadline = Instant::now() + SHUTDOWN_PATIENCE;
        while Instant::now() < deadline {
            if !works_on(pid, place) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Err(PostgresError::Orphan { pgdata: place.pgdata.clone(), pid: pid.as_raw_pid() })
}

/// Ends the backends that outlive their killed postmaster. Idle ones notice by themselves; one in
/// the middle of a long computation does not, holds the shared memory, and would keep us from
/// starting until it is done. SIGQUIT makes it leave at once, as after a crash.
#[cfg(target_os = "linux")]
pub(super) fn end_stragglers(place: &Place) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && works_on(pid, place)
        {
            tracing::warn!(pid = pid.as_raw_pid(), "ending a backend that lost its PostgreSQL");
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

/// Elsewhere we cannot tell them from other clusters', and go on waiting.
#[cfg(not(target_os = "linux"))]
pub(super) fn end_stragglers(_place: &Place) {}

/// Whether the process is a PostgreSQL on this cluster. Process ids are given out again, after
/// the restart of a container at once, so that `postmaster.pid` may name anything, even us.
#[cfg(target_os = "linux")]
fn works_on(pid: Pid, place: &Place) -> bool {
    use std::os::unix::fs::MetadataExt;

    let process = Path::new("/proc").join(pid.as_raw_pid().to_string());
    let Ok(data) = fs::metadata(&place.pgdata) else {
        return false;
    };
    match fs::metadata(process.join("cwd")) {
        // A shell or an editor may stand in that folder too.
        Ok(cwd) => {
            (cwd.dev(), cwd.ino()) == (data.dev(), data.ino())
                && fs::read_to_string(process.join("comm")).is_ok_and(|c| c.contains("postgres"))
        }
        // Root in a container usually lacks CAP_SYS_PTRACE, without which other users' folders
        // stay hidden. The command line is public, and ours names the cluster.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            fs::metadata(&process).is_ok_and(|process| process.uid() == data.uid())
                && fs::read(process.join("cmdline")).is_ok_and(|line| is_ours(&line, place))
        }
        // Gone, or a zombie.
        Err(_) => false,
    }
}

/// Whether `line`, zero-separated, is that of a server on this cluster or, as a title with our
/// mark in it, of one of its children.
#[cfg(target_os = "linux")]
fn is_ours(line: &[u8], place: &Place) -> bool {
    use std::os::unix::ffi::OsStrExt;

    let mut arguments = line.split(|&byte| byte == 0);
    let program = String::from_utf8_lossy(arguments.next().unwrap_or_default());
    let as_child = format!("postgres: {}: ", place.mark());
    program.starts_with(&as_child)
        || program.ends_with("postgres")
            && arguments.any(|argument| argument == place.pgdata.as_os_str().as_bytes())
}

/// Without /proc: by its command line, as `ps` prints it.
#[cfg(not(target_os = "linux"))]
fn works_on(pid: Pid, place: &Place) -> bool {
    let pid = pid.as_raw_pid().to_string();
    std::process::Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid]).output().is_ok_and(
        |output| {
            let line = String::from_utf8_lossy(&output.stdout);
            line.contains("postgres") && line.contains(&*place.pgdata.to_string_lossy())
        },
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn tells_our_command_line() {
        let place = Place::at("/d".into());
        assert!(is_ours(b"/usr/bin/postgres\0-D\0/d/postgres\0-k\0/d/run\0", &place));
        assert!(!is_ours(b"/usr/bin/postgres\0-D\0/d/postgres2\0", &place));
        assert!(!is_ours(b"/bin/vi\0/d/postgres\0", &place));
        assert!(!is_ours(b"", &place));
        let title = format!("postgres: {}: walwriter \0", place.mark());
        assert!(is_ours(title.as_bytes(), &place));
        assert!(!is_ours(title.as_bytes(), &Place::at("/e".into())));
    }

    #[test]
    fn a_shell_in_the_folder_is_no_server() {
        let mut here = Place::at("/d".into());
        here.pgdata = std::env::current_dir().unwrap();
        assert!(!works_on(Pid::from_raw(std::process::id().cast_signed()).unwrap(), &here));
    }
}
