//! One directory entry in the words of filesystem.proto.

use crate::proto::filesystem::{EntryInfo, FileType};
use crate::users::Accounts;
use buffa_types::google::protobuf::Timestamp;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// The names behind the numbers, read once for many entries.
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub fn read() -> Self {
        let accounts = Accounts::read();
        Self { users: accounts.user_names(), groups: accounts.group_names() }
    }
}

/// Of the link's target, if it leads somewhere; else of the link itself.
pub fn describe(path: &Path, names: &Names) -> io::Result<EntryInfo> {
    describe_as(path, path, names)
}

/// What is at `at`, under the path that the caller knows it by.
pub fn describe_as(path: &Path, at: &Path, names: &Names) -> io::Result<EntryInfo> {
    let own = fs::symlink_metadata(at)?;
    let target = if own.is_symlink() { fs::read_link(at).ok() } else { None };
    let seen = if own.is_symlink() { fs::metadata(at).unwrap_or(own) } else { own };
    let name = |names: &HashMap<u32, String>, id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    Ok(EntryInfo {
        name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        r#type: kind(&seen).into(),
        path: path.to_string_lossy().into_owned(),
        size: i64::try_from(seen.len()).unwrap_or(i64::MAX),
        mode: seen.mode() & 0o7777,
        permissions: permissions(&seen),
        owner: name(&names.users, seen.uid()),
        group: name(&names.groups, seen.gid()),
        modified_time: Timestamp {
            seconds: seen.mtime(),
            nanos: i32::try_from(seen.mtime_nsec()).unwrap_or(0),
            ..Default::default()
        }
        .into(),
        symlink_target: target.map(|t| t.to_string_lossy().into_owned()),
        ..Default::default()
    })
}

fn kind(metadata: &Metadata) -> FileType {
    match metadata.file_type() {
        t if t.is_file() => FileType::FILE_TYPE_FILE,
        t if t.is_dir() => FileType::FILE_TYPE_DIRECTORY,
        t if t.is_symlink() => FileType::FILE_TYPE_SYMLINK,
        _ => FileType::FILE_TYPE_UNSPECIFIED,
    }
}

/// As `ls -l` shows them.
fn permissions(metadata: &Metadata) -> String {
    let kind = match metadata.file_type() {
        t if t.is_dir() => 'd',
        t if t.is_symlink() => 'l',
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        t if t.is_fifo() => 'p',
        t if t.is_socket() => 's',
        _ => '-',
    };
    let mode = metadata.mode();
    let mut text: Vec<char> = vec![kind];
    for (shift, special, mark) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => mark,
            (false, true) => mark.to_ascii_uppercase(),
        });
    }
    text.into_iter().collect()
}
