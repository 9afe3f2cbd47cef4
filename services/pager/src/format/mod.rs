//! Readers of docs/formats.md. Each refuses whatever breaks a rule, and allocates no more than its input's size.

mod bytes;
pub mod header;
pub mod sums;
pub mod working_set;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};

pub const BLOCK_BYTES: u64 = 4096;
/// The size of a block where memory is addressed.
pub const BLOCK: usize = 4096;

/// The rule that a file breaks.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<io::Error> for Malformed {
    fn from(error: io::Error) -> Self {
        Malformed(format!("cannot be read: {error}"))
    }
}

/// The whole of a file that may have `most` bytes.
pub fn read_all(mut file: &File, most: u64) -> Result<Vec<u8>, Malformed> {
    let size = file.metadata()?.len();
    if size > most {
        return Err(Malformed(format!("{size} bytes, more than the {most} that it can have")));
    }
    file.rewind()?;
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size).read_to_end(&mut content)?;
    Ok(content)
}
