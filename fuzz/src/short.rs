//! Short runs of fuzz targets on stable Rust, as tests: every seed of the target's corpus, then
//! mutations of the seeds and of what was made of them and is valid. The same ones each time; how
//! many of them depends on the time there is.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// A target panics where a property is broken; else it says whether the input was valid.
pub(crate) type Target = fn(&[u8]) -> bool;

/// How long one target is run, unless this variable gives more seconds.
const TIME: Duration = Duration::from_secs(2);
const SECONDS: &str = "LEDGER_FUZZ_SECONDS";
/// Mutations at most, unless it does.
const MUTATIONS: usize = 50_000;
/// Valid inputs that are kept to be mutated again.
const MAX_KEPT: usize = 512;
const MAX_BYTES: usize = 1 << 16;
/// Edits that make one input of another at most.
const MAX_EDITS: u32 = 4;

/// What a parser is likely to mistake.
const WORDS: [&str; 28] = [
    "",
    "0",
    "-0",
    "1",
    "-1",
    "00",
    "+1",
    "255",
    "256",
    "1000",
    "2147483648",
    "4294967295",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "1.50",
    "null",
    "\n",
    "\n\n",
    "\"",
    "\\u0000",
    "\u{0}",
    "\u{e9}",
    "\u{2028}",
];
const NUMBERS: [u64; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, u32::MAX as u64, u64::MAX];

/// Prints the input at which a target panicked.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self(target, input) = self;
            let hex = hex::encode(input);
            eprintln!("\n{target} fails on the input below. Keep it, mended or not, as a seed:");
            eprintln!("    echo {hex} | xxd -r -p > fuzz/corpus/{target}/NAME\n");
        }
    }
}

pub(crate) fn run(name: &str, target: Target) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|above| above.join("fuzz"));
    let fuzz = fuzz.into_iter().find(|fuzz| fuzz.is_dir()).expect("the folder fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("fuzz/Cargo.toml");
    assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is no program of fuzz/");

    let mut seeds = read_seeds(&fuzz.join("corpus").join(name));
    let check = |input: &[u8]| {
        let _shown = Shown(name, input);
        target(input)
    };
    let valid = seeds.iter().filter(|seed| check(seed)).count();
    assert!(
        valid > 0,
        "no seed of {name} is valid any more: fuzz/README.md says how to renew them"
    );

    let given = std::env::var(SECONDS).ok().map(|text| text.parse().expect("whole seconds"));
    let time = given.map_or(TIME, Duration::from_secs);
    let most = given.map_or(MUTATIONS, |_| usize::MAX);
    let began = Instant::now();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::XorShift);
    let (mut tried, mut accepted) = (0, 0);
    while tried < most && began.elapsed() < time {
        let input = mutated(&seeds, &mut random);
        tried += 1;
        if check(&input) {
            accepted += 1;
            if seeds.len() < MAX_KEPT {
                seeds.push(input);
            }
        }
    }
    eprintln!("{name}: {tried} mutations, {accepted} of them valid");
}

/// In the order of their names, so that each run is the same.
fn read_seeds(folder: &Path) -> Vec<Vec<u8>> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

fn mutated(seeds: &[Vec<u8>], random: &mut TestRng) -> Vec<u8> {
    let pick = |random: &mut TestRng| &seeds[random.random_range(0..seeds.len())];
    let mut input = pick(random).clone();
    for _ in 0..random.random_range(1..=MAX_EDITS) {
        let other = pick(random);
        edit(&mut input, other, random);
    }
    input.truncate(MAX_BYTES);
    input
}

/// A range of the bytes, most often a short one.
fn chunk(length: usize, random: &mut TestRng) -> std::ops::Range<usize> {
    let start = random.random_range(0..=length);
    let longest = if random.random_bool(0.8) { (length - start).min(16) } else { length - start };
    start..start + random.random_range(0..=longest)
}

fn edit(input: &mut Vec<u8>, other: &[u8], random: &mut TestRng) {
    let here = chunk(input.len(), random);
    let at = here.start;
    match random.random_range(0..9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.random();
            }
        }
        // An integer of 1, 2, 4 or 8 bytes.
        2 => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())];
            let width = 1 << random.random_range(0..4);
            let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
            let bytes = if random.random() { &little[..width] } else { &big[8 - width..] };
            for (byte, new) in input[at..].iter_mut().zip(bytes) {
                *byte = *new;
            }
        }
        3 => drop(input.drain(here)),
        // A chunk once more, somewhere.
        4 => {
            let copy = input[here].to_vec();
            let to = random.random_range(0..=input.len());
            input.splice(to..to, copy);
        }
        // A chunk behind the one that follows it.
        5 => {
            let after = random.random_range(here.end..=input.len());
            input[at..after].rotate_left(here.len());
        }
        // A chunk of another seed, or all of its end.
        6 => {
            let from = chunk(other.len(), random);
            input.splice(here, other[from].iter().copied());
        }
        7 => {
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        // A word in place of a number, or of anything.
        _ => {
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            let start = at + input[at..].iter().position(is_digit).unwrap_or(0);
            let digits = input[start..].iter().take_while(|byte| is_digit(byte)).count();
            let word = WORDS[random.random_range(0..WORDS.len())];
            let replaced = if digits > 0 { start..start + digits } else { here };
            input.splice(replaced, word.bytes());
        }
    }
}
