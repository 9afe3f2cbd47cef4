//! Little-endian integers out of a byte string that ends with the CRC-32 of all before.

use super::Malformed;

pub struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// What lies between the magic and the CRC, if both are right.
    pub fn checked(content: &'a [u8], magic: &[u8; 8]) -> Result<Self, Malformed> {
        if content.len() < magic.len() + 4 {
            return Err(Malformed(format!("only {} bytes", content.len())));
        }
        let (body, crc) = content.split_at(content.len() - 4);
        let Some(rest) = body.strip_prefix(magic) else {
            return Err(Malformed(format!("does not begin with {}", magic.escape_ascii())));
        };
        if crc32fast::hash(body).to_le_bytes() != crc {
            return Err(Malformed("its CRC-32 is another".to_owned()));
        }
        Ok(Bytes { rest })
    }

    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(Malformed("ends too early".to_owned()));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
