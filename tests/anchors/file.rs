//! Folders: order, doubled publishes, other histories, and what a crash or a person left.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use audit_ledger::integrity::anchors::{Anchor, AnchorError};
use tempfile::TempDir;

use crate::log::{Log, ORIGIN};
use crate::{all, anchor, conflict, held};

struct Folder {
    dir: TempDir,
    anchor: Anchor,
}

impl Folder {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let anchor = anchor(&format!("file:{}", dir.path().display()));
        Self { dir, anchor }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("example.com=2Fledger.checkpoints")
    }

    fn append(&self, bytes: &[u8]) {
        let file = OpenOptions::new().append(true).create(true).open(self.file());
        file.unwrap().write_all(bytes).unwrap();
    }
}

#[tokio::test]
async fn every_checkpoint_is_kept_once_and_in_order() {
    let folder = Folder::new();
    let log = Log::new(ORIGIN);
    assert!(folder.anchor.keeps_each());
    assert_eq!(folder.anchor.latest(ORIGIN).await.unwrap(), None);
    assert_eq!(held(&folder.anchor, ORIGIN).await, Vec::<String>::new());
    for size in [0, 1, 1, 7, 7, 1, 64, 7] {
        log.keep(&folder.anchor, size).await;
    }
    let notes = [0, 1, 7, 64].map(|size| log.note(size));
    assert_eq!(held(&folder.anchor, ORIGIN).await, notes);
    assert_eq!(all(&folder.anchor, ORIGIN, 7).await.0, notes[2..]);
    assert_eq!(folder.anchor.latest(ORIGIN).await.unwrap().as_ref(), Some(&notes[3]));

    // As the documentation says, with what every machine has.
    let file = fs::File::open(folder.file()).unwrap();
    let shown = Command::new("tr").args(["-d", "\\036"]).stdin(file).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown, notes.map(|note| format!("{note}\n")).concat());
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[tokio::test]
async fn another_history_is_a_conflict_and_is_not_kept() {
    let folder = Folder::new();
    let (log, fork) = (Log::new(ORIGIN), Log::forked_at(ORIGIN, 30));
    for size in [20, 40, 60] {
        log.keep(&folder.anchor, size).await;
    }
    let before = fs::read(folder.file()).unwrap();
    let last = (60, Some(log.note(60)));
    assert_eq!(conflict(fork.publish(&folder.anchor, 60).await), last);
    assert_eq!(conflict(fork.publish(&folder.anchor, 40).await), last);
    // Of the same history, but never kept: the database is older than the anchor.
    assert_eq!(conflict(log.publish(&folder.anchor, 59).await), last);
    assert_eq!(fs::read(folder.file()).unwrap(), before);
    // What the two have in common is held, and what is larger cannot be told from growth.
    fork.keep(&folder.anchor, 20).await;
    fork.keep(&folder.anchor, 70).await;
}

#[tokio::test]
async fn a_note_that_a_crash_tore_is_left_out_wherever_it_was_torn() {
    let log = Log::new(ORIGIN);
    let record = [log.note(40).as_bytes(), b"\x1e\n"].concat();
    for cut in 0..=record.len() {
        let folder = Folder::new();
        log.keep(&folder.anchor, 20).await;
        folder.append(&record[..cut]);
        let whole = cut == record.len();
        let expected = if whole { vec![20, 40] } else { vec![20] };
        let notes = |sizes: &[usize]| sizes.iter().map(|size| log.note(*size)).collect::<Vec<_>>();
        assert_eq!(held(&folder.anchor, ORIGIN).await, notes(&expected), "cut at {cut}");
        let latest = folder.anchor.latest(ORIGIN).await.unwrap();
        assert_eq!(latest.as_ref(), notes(&expected).last(), "cut at {cut}");
        // What is there is never changed: the file may be append-only.
        let torn = fs::read(folder.file()).unwrap();
        for size in [40, 40, 60] {
            log.keep(&folder.anchor, size).await;
        }
        assert_eq!(held(&folder.anchor, ORIGIN).await, notes(&[20, 40, 60]), "cut at {cut}");
        assert!(fs::read(folder.file()).unwrap().starts_with(&torn));
    }
}

#[tokio::test]
async fn the_last_note_is_found_behind_any_amount_of_rubbish() {
    let log = Log::new(ORIGIN);
    let folder = Folder::new();
    log.keep(&folder.anchor, 20).await;
    for rubbish in [10, 16 << 10, 70_000, 3_000_000] {
        folder.append(&vec![0; rubbish]);
        folder.append(b"\x18\n");
        assert_eq!(folder.anchor.latest(ORIGIN).await.unwrap(), Some(log.note(20)));
    }
    log.keep(&folder.anchor, 21).await;
    assert_eq!(folder.anchor.latest(ORIGIN).await.unwrap(), Some(log.note(21)));
}

#[tokio::test]
async fn what_somebody_else_wrote_is_named_and_hides_nothing() {
    let (log, other) = (Log::new(ORIGIN), Log::new("example.org/another"));
    for (foreign, what) in [
        (b"hello\n".to_vec(), "no signed note"),
        (b"\xff\xfe\n".to_vec(), "not UTF-8"),
        (other.note(3).into_bytes(), "another origin"),
        (vec![b'a'; 1_000_003], "too large"),
    ] {
        let folder = Folder::new();
        log.keep(&folder.anchor, 20).await;
        folder.append(&[&foreign[..], b"\x1e\n"].concat());
        let last = folder.anchor.latest(ORIGIN).await.unwrap_err();
        assert!(matches!(last, AnchorError::Damaged(_)) && last.to_string().contains(what));
        let refused = log.publish(&folder.anchor, 40).await.unwrap_err();
        assert!(matches!(refused, AnchorError::Damaged(_)), "{refused}");
        folder.append(&[log.note(40).as_bytes(), b"\x1e\n"].concat());
        let (notes, ended) = all(&folder.anchor, ORIGIN, 0).await;
        assert_eq!(notes, [log.note(20), log.note(40)]);
        let error = ended.unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("example.com=2Fledger"), "{error}");
    }
}

#[tokio::test]
async fn origins_in_one_folder_do_not_touch_each_other() {
    let folder = Folder::new();
    let origins = ["example.com/ledger", "example.com=2Fledger", "../ledger", ".."];
    let long = ["x".repeat(500), format!("{}y", "x".repeat(499))];
    let logs: Vec<_> =
        origins.into_iter().chain(long.iter().map(String::as_str)).map(Log::new).collect();
    for (at, log) in logs.iter().enumerate() {
        log.keep(&folder.anchor, at + 1).await;
    }
    for (at, log) in logs.iter().enumerate() {
        assert_eq!(held(&folder.anchor, log.origin()).await, [log.note(at + 1)]);
    }
    let entries = fs::read_dir(folder.dir.path()).unwrap().map(|entry| entry.unwrap());
    let names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), logs.len());
    assert!(names.iter().all(|name| !name.starts_with('.') && name.len() < 255), "{names:?}");
}

#[tokio::test]
async fn a_folder_is_made_and_what_is_in_the_way_is_named() {
    let dir = TempDir::new().unwrap();
    let log = Log::new(ORIGIN);
    let made = anchor(&format!("file:{}/not/there%20yet", dir.path().display()));
    log.keep(&made, 1).await;
    let file = "example.com=2Fledger.checkpoints";
    assert!(dir.path().join("not/there yet").join(file).is_file());

    let put = |name: &str, put: &dyn Fn(&Path)| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        put(&folder.join(file));
        anchor(&format!("file:{}", folder.display()))
    };
    let link = put("link", &|path| symlink(dir.path().join("elsewhere"), path).unwrap());
    let subfolder = put("subfolder", &|path| fs::create_dir(path).unwrap());
    let pipe = put("pipe", &|path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    });
    for (anchor, what) in [(link, "symbolic link"), (subfolder, "directory"), (pipe, "no file")] {
        let error = log.publish(&anchor, 1).await.unwrap_err();
        assert!(matches!(error, AnchorError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains(what) && error.to_string().contains(file), "{error}");
        assert!(anchor.latest(ORIGIN).await.is_err(), "{what}");
    }
    assert!(!dir.path().join("elsewhere").exists());

    fs::write(dir.path().join("plain"), "").unwrap();
    let in_file = anchor(&format!("file:{}/plain/folder", dir.path().display()));
    let error = log.publish(&in_file, 1).await.unwrap_err();
    assert!(error.to_string().contains("plain/folder: Not a directory"), "{error}");
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_is_named() {
    let folder = Folder::new();
    let log = Log::new(ORIGIN);
    log.keep(&folder.anchor, 1).await;
    // The kernel's own, which even root may not write to.
    let proc = anchor("file:/proc/sys/kernel/anchor");
    let error = log.publish(&proc, 1).await.unwrap_err();
    assert!(error.to_string().contains("/proc/sys/kernel/anchor"), "{error}");
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        fs::set_permissions(folder.file(), Permissions::from_mode(0o444)).unwrap();
        let error = log.publish(&folder.anchor, 2).await.unwrap_err();
        assert!(error.to_string().contains("Permission denied"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_writers_keep_whole_notes_and_none_twice() {
    let folder = Folder::new();
    let log = Log::new(ORIGIN);
    let publish = async |anchor: &Anchor| {
        let mut kept = 0;
        for size in 0..50 {
            match log.publish(anchor, size).await {
                Ok(_) => kept += 1,
                // The other one was ahead.
                Err(AnchorError::Conflict { size: held, .. }) => assert!(held.0 > size as u64),
                Err(error) => panic!("{error}"),
            }
        }
        kept
    };
    let second = anchor(folder.anchor.name());
    let (first, second) = tokio::join!(publish(&folder.anchor), publish(&second));
    assert!(first + second >= 50, "{first} {second}");
    let notes = held(&folder.anchor, ORIGIN).await;
    let expected: Vec<_> =
        (0..50).map(|size| log.note(size)).filter(|note| notes.contains(note)).collect();
    assert_eq!(notes, expected);
}

#[tokio::test]
async fn a_reader_who_leaves_ends_the_reading() {
    let folder = Folder::new();
    let log = Log::new(ORIGIN);
    for size in 0..20 {
        log.keep(&folder.anchor, size).await;
    }
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let read = folder.anchor.all(ORIGIN, ledger_verifier::TreeSize(3), sender);
    let leave = async {
        assert_eq!(receiver.recv().await, Some(log.note(3)));
        drop(receiver);
    };
    tokio::join!(read, leave).0.unwrap();
}

#[test]
fn only_a_plain_absolute_path_is_a_folder() {
    for wrong in ["file:anchors", "file://host/dir", "file:/a?b", "file:/a#b", "file:", "file:x/y"]
    {
        assert!(Anchor::parse(wrong, &[]).is_err(), "{wrong}");
    }
    assert_eq!(anchor("file:///var/lib/anchor").name(), "file:/var/lib/anchor");
}
