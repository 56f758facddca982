//! An anchor in a folder: `file:/dir`, best on another disk than the database's.
//!
//! There is one file for each origin, `<escaped origin>.checkpoints`, to which notes are
//! appended, each with an fsync. Nothing is ever rewritten or cut off, so the files can be made
//! append-only (`chattr +a`). A folder that is not there is made; the files are 0644, links in a
//! file's place are not followed.
//!
//! # Format
//!
//! After each note stands a line with the one byte 0x1E (record separator). No note contains it,
//! since C2SP signed-note forbids control characters, so a note is whole exactly if that line
//! follows. What a crash left of a note lacks it: the next append first ends it with 0x18
//! (cancel) and a newline, and readers leave out what is ended so. For people
//! `tr -d '\036' < example.com=2Fledger.checkpoints` shows all that is held.
//!
//! Several processes on one host, or on a file system that knows locks, may share a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ledger_verifier::TreeSize;
use ledger_verifier::note::MAX_NOTE_BYTES;
use reqwest::Url;
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use super::{ANSWER_WITHIN, AnchorError, Held, Signed, checkpoint_in, compare, escaped};

/// Ends a note that is whole.
const KEPT: &[u8; 2] = b"\x1e\n";
/// Ends what a crash left of a note.
const CANCELLED: &[u8; 2] = b"\x18\n";
/// More than this without an end is no note.
const MAX_RECORD_BYTES: u64 = MAX_NOTE_BYTES as u64 + 2;
/// Bytes from the end in which the last note is looked for first.
const TAIL_BYTES: u64 = 16 << 10;
/// How often a file that another process appends to is tried again, and after which time.
const LOCK_TRIES: u32 = 100;
const LOCK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A folder with a file for each origin.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The anchor and its name.
    pub(super) fn parse(url: &str) -> Result<(String, Self), String> {
        let rule = || "is file: and an absolute path, percent-encoded as in a URL".to_owned();
        // A relative path would silently become an absolute one.
        if !url.starts_with("file:/") {
            return Err(rule());
        }
        let url = Url::parse(url).map_err(|_| rule())?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(rule());
        }
        let path = url.to_file_path().map_err(|()| rule())?;
        Ok((format!("file:{}", url.path()), Self { path }))
    }

    /// Appends the note, unless it is held already.
    pub(super) async fn publish(&self, signed: &Signed<'_>) -> Result<(), AnchorError> {
        let (folder, file) = (self.path.clone(), self.file_of(&signed.checkpoint.origin));
        let (note, checkpoint) = (signed.note.to_owned(), signed.checkpoint.clone());
        within_limit(move || {
            make_folder(&folder)?;
            append(&file, &Signed { note: &note, checkpoint: &checkpoint })
        })
        .await
    }

    /// The last note: appended in their order, it is the one of the greatest size.
    pub(super) async fn latest(&self, origin: &str) -> Result<Option<String>, AnchorError> {
        let (path, origin) = (self.file_of(origin), origin.to_owned());
        within_limit(move || {
            let Some(mut file) = open_to_read(&path)? else { return Ok(None) };
            let Some(note) = last_note(&mut file, &path)? else { return Ok(None) };
            checkpoint_in(&note, &origin).map_err(|error| in_file(&path, error))?;
            Ok(Some(note))
        })
        .await
    }

    pub(super) async fn all(
        &self,
        origin: &str,
        from: TreeSize,
        notes: mpsc::Sender<String>,
    ) -> Result<(), AnchorError> {
        let (path, origin) = (self.file_of(origin), origin.to_owned());
        // As long as whoever receives takes for it: the channel bounds what is read ahead.
        joined(tokio::task::spawn_blocking(move || send_all(&path, &origin, from, &notes)).await)
    }

    fn file_of(&self, origin: &str) -> PathBuf {
        self.path.join(format!("{}.checkpoints", escaped(origin)))
    }
}

/// Does blocking work. A disk that hangs keeps its thread, but not the caller; whatever the
/// thread still appends is what was to be appended.
async fn within_limit<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AnchorError> + Send + 'static,
) -> Result<T, AnchorError> {
    let done = tokio::time::timeout(ANSWER_WITHIN, tokio::task::spawn_blocking(work)).await;
    done.map_or_else(
        |_| {
            let what = format!("the folder did not answer within {} s", ANSWER_WITHIN.as_secs());
            Err(AnchorError::Unavailable(what))
        },
        joined,
    )
}

fn joined<T>(
    done: Result<Result<T, AnchorError>, tokio::task::JoinError>,
) -> Result<T, AnchorError> {
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(AnchorError::Unavailable("the service is shutting down".to_owned())),
    })
}

fn failed(what: &str, path: &Path) -> impl Fn(io::Error) -> AnchorError {
    move |error| AnchorError::Unavailable(format!("cannot {what} {}: {error}", path.display()))
}

/// Says in which file it is that something is damaged.
fn in_file(path: &Path, error: AnchorError) -> AnchorError {
    match error {
        AnchorError::Damaged(what) => AnchorError::Damaged(format!("{}: {what}", path.display())),
        other => other,
    }
}

fn make_folder(folder: &Path) -> Result<(), AnchorError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
    let parent = folder.parent().unwrap_or(folder);
    sync_folder(parent)
}

/// A file is found after a power failure only if its folder was written too.
fn sync_folder(folder: &Path) -> Result<(), AnchorError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

fn append(path: &Path, signed: &Signed<'_>) -> Result<(), AnchorError> {
    let mut file = open(path, OpenOptions::new().read(true).append(true).create(true).mode(0o644))?;
    lock(&file, path)?;
    let length = file.metadata().map_err(failed("look at", path))?.len();
    let is_open_ended = length > 0 && {
        let mut end = [0; 2];
        let start = SeekFrom::Start(length.saturating_sub(2));
        file.seek(start).map_err(failed("read", path))?;
        let read = read_up_to(&mut file, &mut end).map_err(failed("read", path))?;
        &end[..read] != KEPT && &end[..read] != CANCELLED
    };
    if !is_held(&mut file, path, signed)? {
        let ended: &[u8] = if is_open_ended { CANCELLED } else { b"" };
        // In one write, so that most crashes leave all of it or nothing.
        let record = [ended, signed.note.as_bytes(), KEPT].concat();
        file.write_all(&record).map_err(failed("append to", path))?;
    }
    // Also what was held already: an earlier call may have ended before its fsync.
    file.sync_all().map_err(failed("sync", path))?;
    // Here the note is durable.
    if length == 0 { sync_folder(path.parent().unwrap_or(path)) } else { Ok(()) }
}

/// Whether the file holds this checkpoint, wherever; an error if it holds another history.
fn is_held(file: &mut File, path: &Path, signed: &Signed<'_>) -> Result<bool, AnchorError> {
    let Some(last) = last_note(file, path)? else { return Ok(false) };
    match compare(last, signed).map_err(|error| in_file(path, error)) {
        Ok(held) => Ok(held == Held::Same),
        // An older one that is published again, after another instance has published newer ones.
        Err(AnchorError::Conflict { size, .. })
            if size > signed.checkpoint.size && is_among(file, path, signed)? =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn is_among(file: &mut File, path: &Path, signed: &Signed<'_>) -> Result<bool, AnchorError> {
    file.rewind().map_err(failed("read", path))?;
    for record in Records(BufReader::new(file)) {
        if let Record::Note(note) = record.map_err(|error| unreadable(path, &error))?
            && note == signed.note.as_bytes()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens a regular file, and nothing that a link or a pipe in its place would lead to.
fn open(path: &Path, options: &mut OpenOptions) -> Result<File, AnchorError> {
    // Without NONBLOCK the opening of a pipe waits for its other end.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = options.custom_flags(flags).open(path);
    let file = opened.map_err(|error| {
        let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        if is_link {
            let what = format!("{} is a symbolic link, which is not followed", path.display());
            return AnchorError::Unavailable(what);
        }
        failed("open", path)(error)
    })?;
    if file.metadata().map_err(failed("look at", path))?.is_file() {
        return Ok(file);
    }
    Err(AnchorError::Unavailable(format!("{} is no file", path.display())))
}

fn open_to_read(path: &Path) -> Result<Option<File>, AnchorError> {
    // Through the metadata, so that a folder that may not be looked into is an error and one
    // that is not there is none.
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path)(error)),
        Ok(_) => open(path, OpenOptions::new().read(true)).map(Some),
    }
}

/// Until the file is closed. A process that hangs while it appends does not make this one hang.
fn lock(file: &File, path: &Path) -> Result<(), AnchorError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(fs::TryLockError::WouldBlock) => thread::sleep(LOCK_AGAIN_AFTER),
            Err(fs::TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
        }
    }
    Err(AnchorError::Unavailable(format!("{} is locked by another process", path.display())))
}

/// The last whole note, found from the end: the file may be large.
fn last_note(file: &mut File, path: &Path) -> Result<Option<String>, AnchorError> {
    let length = file.metadata().map_err(failed("look at", path))?.len();
    let mut back = TAIL_BYTES;
    loop {
        let start = length.saturating_sub(back);
        file.seek(SeekFrom::Start(start)).map_err(failed("read", path))?;
        let mut records = Records(BufReader::new(&mut *file));
        if start > 0 {
            // Most likely the rest of one.
            records.next();
        }
        let mut last = Ok(None);
        for record in records {
            match record {
                Ok(Record::Note(note)) => last = Ok(Some(note)),
                Ok(Record::Torn) => {}
                Err(error) => last = Err(error),
            }
        }
        if let Some(note) = last.map_err(|error| unreadable(path, &error))? {
            return text(note, path).map(Some);
        }
        if start == 0 {
            return Ok(None);
        }
        back *= 4;
    }
}

fn text(note: Vec<u8>, path: &Path) -> Result<String, AnchorError> {
    String::from_utf8(note)
        .map_err(|_| AnchorError::Damaged(format!("{}: a note is not UTF-8", path.display())))
}

fn unreadable(path: &Path, error: &io::Error) -> AnchorError {
    if error.kind() == ErrorKind::InvalidData {
        return AnchorError::Damaged(format!("{}: {error}", path.display()));
    }
    AnchorError::Unavailable(format!("cannot read {}: {error}", path.display()))
}

fn send_all(
    path: &Path,
    origin: &str,
    from: TreeSize,
    notes: &mpsc::Sender<String>,
) -> Result<(), AnchorError> {
    let Some(file) = open_to_read(path)? else { return Ok(()) };
    let mut first_damage = Ok(());
    for record in Records(BufReader::new(file)) {
        let note = match record {
            Ok(Record::Note(note)) => text(note, path),
            Ok(Record::Torn) => continue,
            Err(error) => Err(unreadable(path, &error)),
        };
        let read = note.and_then(|note| {
            let checkpoint = checkpoint_in(&note, origin).map_err(|error| in_file(path, error))?;
            Ok((checkpoint.size, note))
        });
        match read {
            Ok((size, _)) if size < from => {}
            Ok((_, note)) => {
                if notes.blocking_send(note).is_err() {
                    // Nobody who receives any more is no error.
                    return Ok(());
                }
            }
            Err(AnchorError::Damaged(what)) => {
                first_damage = first_damage.and(Err(AnchorError::Damaged(what)));
            }
            Err(error) => return Err(error),
        }
    }
    first_damage
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match reader.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// What stands in a file between two ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Note(Vec<u8>),
    /// What a crash left: cancelled, or still without an end.
    Torn,
}

/// The records of a file, in their order. One that is too large for a note is an error of kind
/// `InvalidData`, and the next is read all the same.
pub(crate) struct Records<R>(pub(crate) R);

impl<R: BufRead> Iterator for Records<R> {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = Vec::new();
        let mut is_too_large = false;
        loop {
            let room = MAX_RECORD_BYTES - record.len() as u64;
            if room == 0 {
                is_too_large = true;
                // Its end may have been half read.
                record.drain(..record.len() - 1);
                continue;
            }
            let is_end = match (&mut self.0).take(room).read_until(b'\n', &mut record) {
                Err(error) => return Some(Err(error)),
                Ok(read) => read == 0,
            };
            if is_end && record.is_empty() {
                return None;
            }
            if record.ends_with(CANCELLED) {
                return Some(Ok(Record::Torn));
            }
            let kept = record.strip_suffix(KEPT);
            if is_too_large && (is_end || kept.is_some()) {
                let error = io::Error::new(ErrorKind::InvalidData, "a note is too large for one");
                return Some(Err(error));
            }
            match kept {
                Some(note) => return Some(Ok(Record::Note(note.to_vec()))),
                None if is_end => return Some(Ok(Record::Torn)),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(bytes: &[u8]) -> Vec<Record> {
        Records(bytes).map(|record| record.unwrap()).collect()
    }

    #[test]
    fn what_a_crash_left_is_told_from_a_note() {
        let note = |text: &str| Record::Note(text.into());
        assert_eq!(records(b""), []);
        assert_eq!(records(b"a\nb\n\x1e\n"), [note("a\nb\n")]);
        let whole = b"a\n\nb\n\x1e\n";
        for cut in 1..whole.len() {
            assert_eq!(records(&whole[..cut]), [Record::Torn], "cut at {cut}");
            let mended = [&whole[..cut], CANCELLED, whole].concat();
            assert_eq!(records(&mended), [Record::Torn, note("a\n\nb\n")], "cut at {cut}");
            let torn_again = [&whole[..cut], &CANCELLED[..1], CANCELLED, whole].concat();
            assert_eq!(records(&torn_again), [Record::Torn, note("a\n\nb\n")], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_too_large_for_a_note_hides_nothing_that_follows() {
        let largest = vec![b'a'; MAX_NOTE_BYTES];
        for more in 1..5 {
            let endless = vec![b'\n'; MAX_NOTE_BYTES + more];
            let file = [&largest[..], KEPT, &endless, KEPT, b"b\n", KEPT].concat();
            let mut records = Records(&file[..]);
            assert_eq!(records.next().unwrap().unwrap(), Record::Note(largest.clone()));
            assert_eq!(records.next().unwrap().unwrap_err().kind(), ErrorKind::InvalidData);
            assert_eq!(records.next().unwrap().unwrap(), Record::Note(b"b\n".into()));
            assert!(records.next().is_none());
        }
    }
}
