//! The zip around a bundle (PKWARE APPNOTE.TXT 6.3), read strictly: every byte of the file belongs
//! to one entry or to the directory, which alone says what is there. Nothing is hidden in front,
//! between or behind, no two entries share bytes, and the directory's size is bounded before it is
//! read.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

/// More entries than any bundle has, so that the wrong ones can be named.
const MAX_ENTRIES: u64 = 64;
const MAX_DIRECTORY_BYTES: u64 = 64 << 10;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const LOCAL_BYTES: u64 = 30;
const END_BYTES: u64 = 22;
/// The record and its locator, which stand before the end where an archive is larger than 4 GiB.
const END64_BYTES: u64 = 56 + 20;

/// Sizes and sum follow the data: a writer that streams does not know them before.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// How hard the compression tried (two bits), the descriptor, and that names are UTF-8.
const FLAGS_ALLOWED: u16 = 0b110 | FLAG_DESCRIPTOR | 1 << 11;
/// Lengths of a data descriptor: with its signature or not, with sizes of 4 or 8 bytes.
const DESCRIPTOR_BYTES: [u64; 4] = [12, 16, 20, 24];

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Why an archive, or an entry of it, was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContainerError {
    /// Its bytes are not to be had: nothing is known.
    #[error(transparent)]
    Source(io::Error),
    /// Its bytes are not what a bundle's are.
    #[error("{0}")]
    Broken(String),
}

fn broken<T>(why: impl Into<String>) -> Result<T, ContainerError> {
    Err(ContainerError::Broken(why.into()))
}

/// A reader's own error on its way through the decompressor, which has errors of the same type.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct SourceError(io::Error);

impl From<io::Error> for ContainerError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<SourceError>() {
            Ok(SourceError(error)) => Self::Source(error),
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}

/// Marks the errors of the reader below.
struct Source<R>(R);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(mark)
    }
}

fn mark(error: io::Error) -> io::Error {
    match error.kind() {
        // Whoever reads tries again.
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, SourceError(error)),
    }
}

/// One file of the archive.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Its bytes once they are decompressed.
    pub(super) size: u64,
    method: u16,
    flags: u16,
    crc: u32,
    /// Its bytes in the archive.
    packed: u64,
    header_at: u64,
    data_at: u64,
}

pub(super) struct Archive<R> {
    source: R,
    entries: Vec<Entry>,
}

impl<R: Read + Seek> Archive<R> {
    pub(super) fn open(mut source: R) -> Result<Self, ContainerError> {
        let directory = Directory::find(&mut source)?;
        let bytes = read_at(&mut source, directory.start, directory.bytes)?;
        let mut fields = Fields(&bytes);
        let mut entries = Vec::new();
        for _ in 0..directory.entries {
            let mut entry = fields.entry()?;
            if entry.header_at >= directory.start {
                return broken("the zip's directory points behind its entries");
            }
            entry.find_data(&mut source)?;
            entries.push(entry);
        }
        if !fields.0.is_empty() {
            return broken("the zip's directory has more than its entries");
        }
        require_tiles(&entries, directory.start)?;
        Ok(Self { source, entries })
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file of this name; the first where there are several.
    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.name == name).cloned()
    }

    /// Reads a file. An error of what is returned becomes one of this module with `?`.
    pub(super) fn read(&mut self, entry: &Entry) -> Result<EntryReader<'_, R>, ContainerError> {
        self.source.seek(SeekFrom::Start(entry.data_at)).map_err(ContainerError::Source)?;
        let packed = Source(&mut self.source).take(entry.packed);
        let body = match entry.method {
            STORED => Body::Stored(packed),
            _ => Body::Deflated(DeflateDecoder::new(BufReader::new(packed))),
        };
        Ok(EntryReader { body, read: 0, crc: Crc::new(), entry: entry.clone() })
    }
}

/// Where the directory is.
struct Directory {
    start: u64,
    bytes: u64,
    entries: u64,
}

impl Directory {
    fn find<R: Read + Seek>(source: &mut R) -> Result<Self, ContainerError> {
        let length = source.seek(SeekFrom::End(0)).map_err(ContainerError::Source)?;
        let Some(end_at) = length.checked_sub(END_BYTES) else {
            return broken("the file is no zip: it is too short for one");
        };
        let bytes = read_at(source, end_at, END_BYTES)?;
        let mut fields = Fields(&bytes);
        if fields.u32()? != END {
            return broken("the file does not end as a zip does: it was cut, or is none");
        }
        let disks = (fields.u16()?, fields.u16()?);
        let (here, entries) = (fields.u16()?, fields.u16()?);
        let (size, start, comment) = (fields.u32()?, fields.u32()?, fields.u16()?);
        if disks != (0, 0) || here != entries || comment != 0 {
            return broken("the zip is in several parts, or has a comment");
        }
        let mut found = Self { start: start.into(), bytes: size.into(), entries: entries.into() };
        let mut directory_end = end_at;
        let saturated = (start, size, entries);
        if let Some(before) = end_at.checked_sub(END64_BYTES)
            && let Some(large) = Self::find_large(source, before)?
        {
            let is_same = |small: u64, top: u64, large: u64| small == top || small == large;
            let agrees = is_same(saturated.0.into(), u32::MAX.into(), large.start)
                && is_same(saturated.1.into(), u32::MAX.into(), large.bytes)
                && is_same(saturated.2.into(), u16::MAX.into(), large.entries);
            if !agrees {
                return broken("the zip's two ends disagree");
            }
            (found, directory_end) = (large, before);
        }
        if found.entries > MAX_ENTRIES || found.bytes > MAX_DIRECTORY_BYTES {
            return broken("the zip has more entries than any bundle");
        }
        if found.start.checked_add(found.bytes) != Some(directory_end) {
            return broken("the zip's directory is not where its end says");
        }
        Ok(found)
    }

    /// What stands before the end where an archive may be larger than 4 GiB.
    fn find_large<R: Read + Seek>(source: &mut R, at: u64) -> Result<Option<Self>, ContainerError> {
        let bytes = read_at(source, at, END64_BYTES)?;
        let (record, locator) = bytes.split_at(56);
        let mut locator = Fields(locator);
        if locator.u32()? != END64_LOCATOR {
            return Ok(None);
        }
        let (disk, record_at, disks) = (locator.u32()?, locator.u64()?, locator.u32()?);
        let mut record = Fields(record);
        let (signature, size, _versions) = (record.u32()?, record.u64()?, record.u32()?);
        let record_disks = (record.u32()?, record.u32()?);
        let (here, entries) = (record.u64()?, record.u64()?);
        let (bytes, start) = (record.u64()?, record.u64()?);
        let is_whole = (signature, size, record_at) == (END64, 44, at)
            && (disk, disks, record_disks) == (0, 1, (0, 0))
            && here == entries;
        if is_whole {
            Ok(Some(Self { start, bytes, entries }))
        } else {
            broken("the zip's end is malformed")
        }
    }
}

/// Entry follows entry without a gap, and the directory follows the last.
fn require_tiles(entries: &[Entry], directory_at: u64) -> Result<(), ContainerError> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.header_at);
    let starts = entries.iter().skip(1).map(|next| next.header_at).chain([directory_at]);
    let is_first = entries.first().is_none_or(|first| first.header_at == 0);
    let follows = |(entry, next): (&&Entry, u64)| {
        let end = entry.data_at.checked_add(entry.packed);
        match end.and_then(|end| next.checked_sub(end)) {
            Some(0) => entry.flags & FLAG_DESCRIPTOR == 0,
            Some(more) => entry.flags & FLAG_DESCRIPTOR != 0 && DESCRIPTOR_BYTES.contains(&more),
            None => false,
        }
    };
    if is_first && entries.iter().zip(starts).all(follows) {
        Ok(())
    } else {
        broken("the zip has bytes that belong to no entry, or to two")
    }
}

fn read_at<R: Read + Seek>(source: &mut R, at: u64, bytes: u64) -> Result<Vec<u8>, ContainerError> {
    source.seek(SeekFrom::Start(at)).map_err(ContainerError::Source)?;
    let mut read = Vec::new();
    source.by_ref().take(bytes).read_to_end(&mut read).map_err(ContainerError::Source)?;
    if u64::try_from(read.len()) == Ok(bytes) { Ok(read) } else { broken("the zip is cut") }
}

/// Little-endian numbers, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], ContainerError> {
        let Some((bytes, rest)) = self.0.split_at_checked(count) else {
            return broken("the zip is cut");
        };
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ContainerError> {
        Ok(self.bytes(N)?.try_into().expect("as many bytes as asked for"))
    }

    fn u16(&mut self) -> Result<u16, ContainerError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ContainerError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ContainerError> {
        self.array().map(u64::from_le_bytes)
    }

    /// An entry of the directory, but for where its data begins.
    fn entry(&mut self) -> Result<Entry, ContainerError> {
        if self.u32()? != CENTRAL {
            return broken("the zip's directory is malformed");
        }
        let _versions = self.u32()?;
        let (flags, method) = (self.u16()?, self.u16()?);
        let _time_and_date = self.u32()?;
        let (crc, packed, size) = (self.u32()?, self.u32()?, self.u32()?);
        let lengths = [self.u16()?, self.u16()?, self.u16()?];
        let [name, extra, comment] = lengths.map(usize::from);
        let _disk_and_attributes = self.bytes(8)?;
        let header_at = self.u32()?;
        let name = String::from_utf8_lossy(self.bytes(name)?).into_owned();
        let mut extra = Fields(self.bytes(extra)?);
        if flags & !FLAGS_ALLOWED != 0 || ![STORED, DEFLATED].contains(&method) || comment != 0 {
            let name = name.escape_debug();
            return broken(format!(
                "the zip's entry {name} is encrypted, patched or of another kind"
            ));
        }
        // What does not fit 32 bits stands in the extra field 1, in this order.
        let mut large = [size, packed, header_at].map(u64::from);
        while !extra.0.is_empty() {
            let (id, length) = (extra.u16()?, extra.u16()?);
            let mut field = Fields(extra.bytes(length.into())?);
            if id == 1 {
                for number in large.iter_mut().filter(|number| **number == u64::from(u32::MAX)) {
                    *number = field.u64()?;
                }
            }
        }
        let [size, packed, header_at] = large;
        Ok(Entry { name, size, method, flags, crc, packed, header_at, data_at: 0 })
    }
}

impl Entry {
    /// Reads the header before the data, which must say the same as the directory.
    fn find_data<R: Read + Seek>(&mut self, source: &mut R) -> Result<(), ContainerError> {
        let bytes = read_at(source, self.header_at, LOCAL_BYTES)?;
        let mut fields = Fields(&bytes);
        let (signature, _version) = (fields.u32()?, fields.u16()?);
        let (flags, method) = (fields.u16()?, fields.u16()?);
        let _time_sum_and_sizes = fields.bytes(16)?;
        let (name_bytes, extra) = (u64::from(fields.u16()?), u64::from(fields.u16()?));
        let header_end = self.header_at.checked_add(LOCAL_BYTES);
        let Some(name_at) = header_end.filter(|_| signature == LOCAL) else {
            return broken("the zip's directory points to no entry");
        };
        let name = read_at(source, name_at, name_bytes)?;
        if (flags, method) != (self.flags, self.method) || name != self.name.as_bytes() {
            return broken("an entry of the zip and its directory disagree");
        }
        self.data_at = name_at + name_bytes + extra;
        Ok(())
    }
}

enum Body<R: Read> {
    Stored(io::Take<Source<R>>),
    Deflated(DeflateDecoder<BufReader<io::Take<Source<R>>>>),
}

/// The bytes of one file. Its end is only reported where size and sum are those of the directory.
pub(super) struct EntryReader<'a, R: Read> {
    body: Body<&'a mut R>,
    read: u64,
    crc: Crc,
    entry: Entry,
}

impl<R: Read> Read for EntryReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (count, packed) = match &mut self.body {
            Body::Stored(body) => (body.read(into)?, None),
            Body::Deflated(body) => (body.read(into)?, Some(body.total_in())),
        };
        self.read += u64::try_from(count).unwrap_or(u64::MAX);
        self.crc.update(&into[..count]);
        let is_end = count == 0 && !into.is_empty();
        let is_whole = self.read == self.entry.size
            && self.crc.sum() == self.entry.crc
            && packed.is_none_or(|packed| packed == self.entry.packed);
        if self.read > self.entry.size || is_end && !is_whole {
            let why = "the zip's entry is not of the size and sum that its directory says";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(count)
    }
}
