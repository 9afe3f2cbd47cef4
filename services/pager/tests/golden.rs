//! The golden files in services/snapshot-store/test/golden, which the TypeScript readers are tested on too.
//! Written once: `cargo test --test golden -- --ignored write`.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use support::encode::{self, Header, ZERO, crc32, sealed, snapshot_id};
use wrenn_pager::format::{self, Malformed, header, sums, working_set};

fn place(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../snapshot-store/test/golden").join(name)
}

fn chain() -> [Header; 3] {
    let (a, b, c) = (snapshot_id("full"), snapshot_id("second"), snapshot_id("third"));
    let full = Header {
        block_bytes: 4096,
        generation: 0,
        memory_bytes: 16 * 4096,
        builds: vec![(a.clone(), 9 * 4096)],
        runs: vec![(0, 4, 0, 0), (4, 6, ZERO, 0), (10, 5, 0, 4 * 4096), (15, 1, ZERO, 0)],
    };
    // The guest zeroed blocks 2 and 3 and wrote 5, 6 and 10.
    let second = Header {
        generation: 1,
        builds: vec![(b.clone(), 3 * 4096), (a.clone(), 9 * 4096)],
        runs: vec![
            (0, 2, 1, 0),
            (2, 3, ZERO, 0),
            (5, 2, 0, 0),
            (7, 3, ZERO, 0),
            (10, 1, 0, 2 * 4096),
            (11, 4, 1, 5 * 4096),
            (15, 1, ZERO, 0),
        ],
        ..full.clone()
    };
    // It wrote 3, 6 and 15.
    let third = Header {
        generation: 2,
        builds: vec![(c, 3 * 4096), (b, 3 * 4096), (a, 9 * 4096)],
        runs: vec![
            (0, 2, 2, 0),
            (2, 1, ZERO, 0),
            (3, 1, 0, 0),
            (4, 1, ZERO, 0),
            (5, 1, 1, 0),
            (6, 1, 0, 4096),
            (7, 3, ZERO, 0),
            (10, 1, 1, 2 * 4096),
            (11, 4, 2, 5 * 4096),
            (15, 1, 0, 2 * 4096),
        ],
        ..full.clone()
    };
    [full, second, third]
}

fn broken_headers() -> Vec<(&'static str, Vec<u8>)> {
    let [full, second, _] = chain();
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = second.clone();
        change(&mut header);
        header.bytes()
    };
    // Before the CRC, which is right again.
    let patched = |at: usize, to: u8| {
        let mut content = second.bytes();
        content.truncate(content.len() - 4);
        content[at] = to;
        sealed(content)
    };
    let (build, run) = (32, 32 + 2 * 40);
    let mut flipped = full.bytes();
    flipped[40] ^= 1;
    let mut longer = full.bytes();
    longer.truncate(longer.len() - 4);
    longer.extend([0; 24]);
    let size = full.bytes().len();
    vec![
        ("bit-flip", flipped),
        ("truncated", full.bytes()[..size - 24].to_vec()),
        ("empty", Vec::new()),
        ("magic", patched(7, b'2')),
        ("block-bytes", with(&|h| h.block_bytes = 8192)),
        ("no-memory", with(&|h| h.memory_bytes = 0)),
        ("memory-unaligned", with(&|h| h.memory_bytes += 1)),
        ("memory-too-large", with(&|h| h.memory_bytes = (1 << 40) + 4096)),
        ("no-builds", with(&|h| h.builds.clear())),
        ("too-many-builds", with(&|h| h.builds = vec![h.builds[0].clone(); 65])),
        ("no-runs", with(&|h| h.runs.clear())),
        ("more-runs-than-bytes", patched(30, 0x3F)),
        ("bytes-behind", sealed(longer)),
        ("id-not-ascii", patched(build, 0xE9)),
        ("id-slash", patched(build + 2, b'/')),
        ("build-reserved", patched(build + 28, 1)),
        ("build-unaligned", with(&|h| h.builds[0].1 += 512)),
        ("gap", with(&|h| h.runs[1] = (3, 2, ZERO, 0))),
        ("overlap", with(&|h| h.runs[1] = (1, 4, ZERO, 0))),
        ("unsorted", with(&|h| h.runs.swap(1, 2))),
        ("run-empty", with(&|h| h.runs.insert(1, (2, 0, ZERO, 0)))),
        ("run-wraps", with(&|h| h.runs[0].1 = u32::MAX)),
        ("not-covered", with(&|h| h.runs.truncate(6))),
        ("past-the-end", with(&|h| h.runs[6].1 = 2)),
        ("unknown-build", with(&|h| h.runs[0].2 = 2)),
        ("run-reserved", patched(run + 12, 1)),
        ("zero-with-offset", with(&|h| h.runs[1].3 = 4096)),
        ("offset-unaligned", with(&|h| h.runs[0].3 = 512)),
        ("offset-past-build", with(&|h| h.runs[4].3 = 3 * 4096)),
        ("offset-wraps", with(&|h| h.runs[4].3 = u64::MAX - 4095)),
        ("zero-neighbours", with(&|h| h.runs.splice(1..2, [(2, 1, ZERO, 0), (3, 2, ZERO, 0)]).for_each(drop))),
        ("stored-neighbours", with(&|h| h.runs.splice(0..1, [(0, 1, 1, 0), (1, 1, 1, 4096)]).for_each(drop))),
    ]
}

fn broken_sums() -> Vec<(&'static str, Vec<u8>)> {
    let good = encode::sums(&golden_sums());
    let mut flipped = good.clone();
    flipped[20] ^= 0x80;
    let mut more = good[..good.len() - 4].to_vec();
    more[8] += 1;
    let mut odd = good[..good.len() - 4].to_vec();
    odd.push(0);
    vec![
        ("bit-flip", flipped),
        ("truncated", good[..good.len() - 1].to_vec()),
        ("more-than-bytes", sealed(more)),
        ("odd-size", sealed(odd)),
        ("magic", sealed([b"WRNMEMS2", &good[8..good.len() - 4]].concat())),
    ]
}

fn broken_working_sets() -> Vec<(&'static str, Vec<u8>)> {
    let good = encode::working_set(&golden_working_set());
    let mut flipped = good.clone();
    flipped[13] ^= 4;
    let mut fewer = good[..good.len() - 4].to_vec();
    fewer[8] -= 1;
    vec![
        ("bit-flip", flipped),
        ("truncated", good[..good.len() - 4].to_vec()),
        ("fewer-than-bytes", sealed(fewer)),
        ("twice", encode::working_set(&[3, 1, 3])),
    ]
}

fn golden_sums() -> Vec<u32> {
    vec![crc32(b""), crc32(b"123456789"), crc32(&[0; 4096]), crc32(&[0xFF; 4096])]
}

fn golden_working_set() -> Vec<u32> {
    vec![7, 6, 15, 0, 1, 2]
}

fn good_headers() -> Vec<(String, Header)> {
    chain().into_iter().enumerate().map(|(index, header)| (format!("header-{}", index + 1), header)).collect()
}

#[test]
#[ignore = "writes the golden files"]
#[allow(clippy::unwrap_used)]
fn write() {
    fs::create_dir_all(place("")).unwrap();
    let mut readme = serde_json::Map::new();
    for (name, header) in good_headers() {
        fs::write(place(&name), header.bytes()).unwrap();
        readme.insert(name, header.json());
    }
    fs::write(place("sums"), encode::sums(&golden_sums())).unwrap();
    fs::write(place("workingset"), encode::working_set(&golden_working_set())).unwrap();
    readme.insert("sums".to_owned(), json!(golden_sums()));
    readme.insert("workingset".to_owned(), json!(golden_working_set()));
    for (kind, broken) in [("header", broken_headers()), ("sums", broken_sums()), ("workingset", broken_working_sets())]
    {
        for (rule, content) in broken {
            fs::write(place(&format!("broken-{kind}-{rule}")), content).unwrap();
        }
    }
    fs::write(place("expected.json"), format!("{}\n", serde_json::to_string_pretty(&readme).unwrap())).unwrap();
}

#[allow(clippy::unwrap_used)]
fn golden(name: &str) -> Vec<u8> {
    fs::read(place(name)).unwrap()
}

#[allow(clippy::unwrap_used)]
fn expected(name: &str) -> Value {
    serde_json::from_slice::<Value>(&golden("expected.json")).unwrap()[name].take()
}

fn as_json(header: &header::Header) -> Value {
    let builds = header.builds.iter().map(|build| json!({ "id": build.id, "storedBytes": build.stored_bytes }));
    let runs = header.runs.iter().map(|run| {
        let (build, offset) = match run.place {
            header::Place::Zero => (Value::Null, 0),
            header::Place::Stored { build, offset } => (json!(build), offset),
        };
        json!({ "first": run.first, "blocks": run.blocks, "build": build, "offset": offset })
    });
    json!({
        "generation": header.generation,
        "memoryBytes": header.memory_bytes(),
        "builds": builds.collect::<Vec<_>>(),
        "runs": runs.collect::<Vec<_>>(),
    })
}

#[test]
fn reads_headers_of_one_to_three_generations() -> Result<(), Malformed> {
    for (name, header) in good_headers() {
        assert_eq!(golden(&name), header.bytes(), "{name} is what the encoder writes");
        assert_eq!(as_json(&header::Header::read(&golden(&name))?), expected(&name), "{name}");
    }
    Ok(())
}

#[test]
fn reads_sums_and_working_set() -> Result<(), Malformed> {
    assert_eq!(json!(sums::read(&golden("sums"))?), expected("sums"));
    assert_eq!(sums::read(&golden("sums"))?[1], 0xCBF4_3926, "CRC-32 of the check string");
    let blocks = working_set::read(&golden("workingset"))?;
    assert_eq!(json!(blocks), expected("workingset"));
    assert_eq!(working_set::write(&blocks), golden("workingset"));
    Ok(())
}

#[test]
fn refuses_each_broken_file() {
    let mut refused = 0;
    for (kind, broken) in [("header", broken_headers()), ("sums", broken_sums()), ("workingset", broken_working_sets())]
    {
        for (rule, content) in broken {
            assert_eq!(golden(&format!("broken-{kind}-{rule}")), content);
            let why = match kind {
                "header" => header::Header::read(&content).err(),
                "sums" => sums::read(&content).err(),
                _ => working_set::read(&content).err(),
            };
            assert!(why.is_some(), "{kind} {rule} was read");
            refused += 1;
        }
    }
    assert!(refused >= 40, "{refused} files");
}

#[test]
fn refuses_a_file_larger_than_its_format_allows() -> Result<(), std::io::Error> {
    let file = fs::File::open(place("header-1"))?;
    assert!(format::read_all(&file, 100).is_err());
    Ok(())
}
