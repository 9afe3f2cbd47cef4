//! Who listens, from /proc/net/tcp and tcp6. The files stay open and the buffers are used again and again:
//! a look that finds nothing new allocates nothing. The kernel lists listeners first, so reading stops with
//! the first other socket, however many there are; but to find that there is none it walks a hash table that
//! grows with the machine's memory, so no read is made only to be told of the end.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt as _;

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The kernel gives a page at a time.
const READ_BYTES: usize = 4096;
/// More than any line has: with room for this much left, there was none to add.
const LINE_BYTES: usize = 512;
/// A guest with more listening sockets has those beyond ignored.
const TEXT_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub port: u16,
    pub address: IpAddr,
}

pub struct Scanner {
    tables: Vec<File>,
    text: Vec<u8>,
    found: Vec<Listener>,
    before: Vec<Listener>,
}

impl Scanner {
    pub fn open() -> io::Result<Self> {
        let mut tables = vec![File::open(TABLES[0])?];
        // A kernel without IPv6 has no second table.
        tables.extend(File::open(TABLES[1]));
        Ok(Self { tables, text: Vec::new(), found: Vec::new(), before: Vec::new() })
    }

    /// Sorted by port and address, and whether they differ from those of the last look.
    pub fn look(&mut self) -> (&[Listener], bool) {
        self.found.clear();
        for table in &self.tables {
            // A table that cannot be read now can be at the next look.
            if read_listening(table, &mut self.text).is_ok() {
                self.found.extend(self.text.split(|&b| b == b'\n').filter_map(listener));
            }
        }
        self.found.sort_unstable();
        self.found.dedup();
        let has_changed = self.found != self.before;
        std::mem::swap(&mut self.found, &mut self.before);
        (&self.before, has_changed)
    }
}

/// Fills `text` with the first lines of a table, up to one that is no listener's.
fn read_listening(table: &File, text: &mut Vec<u8>) -> io::Result<()> {
    text.clear();
    while text.len() < TEXT_BYTES {
        let start = text.len();
        text.resize(start + READ_BYTES, 0);
        let n = table.read_at(&mut text[start..], start as u64).inspect_err(|_| text.clear())?;
        text.truncate(start + n);
        // Reads end with whole lines.
        let last = text.trim_ascii_end().rsplit(|&b| b == b'\n').next().unwrap_or_default();
        if n + LINE_BYTES < READ_BYTES || (fields(last).is_some() && listener(last).is_none()) {
            break;
        }
    }
    Ok(())
}

/// Local address and state, as text.
fn fields(line: &[u8]) -> Option<(&str, &str)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (_slot, local, _remote, state) = (words.next()?, words.next()?, words.next()?, words.next()?);
    local.contains(':').then_some((local, state))
}

fn listener(line: &[u8]) -> Option<Listener> {
    const LISTEN: &str = "0A";
    let (local, state) = fields(line)?;
    let (address, port) = local.split_once(':').filter(|_| state == LISTEN)?;
    Some(Listener { port: u16::from_str_radix(port, 16).ok()?, address: ip(address)? })
}

/// Words of 32 bits, each printed as the number that the machine sees in them.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (n, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(n * 8)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn reads_addresses_as_the_kernel_prints_them_and_listeners_only() {
        let line = |local: &str, state: &str| {
            let line = format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0");
            listener(line.as_bytes()).map(|l| (l.address.to_string(), l.port))
        };
        assert_eq!(line("0100007F:1F90", "0A"), Some(("127.0.0.1".into(), 8080)));
        assert_eq!(line("1500FEA9:0050", "0A"), Some(("169.254.0.21".into(), 80)));
        assert_eq!(line("00000000000000000000000001000000:0BB8", "0A"), Some(("::1".into(), 3000)));
        assert_eq!(line("0000000000000000FFFF00000100007F:0001", "0A"), Some(("::ffff:127.0.0.1".into(), 1)));
        assert_eq!(line("0100007F:1F90", "01"), None);
        assert_eq!(listener(b"  sl  local_address rem_address   st tx_queue rx_queue"), None);
    }

    #[test]
    fn finds_a_new_listener_once_and_keeps_its_buffers() -> io::Result<()> {
        let mut scanner = Scanner::open()?;
        scanner.look();
        let socket = TcpListener::bind("127.0.0.1:0")?;
        let port = socket.local_addr()?.port();
        let holds = |listeners: &[Listener]| listeners.iter().any(|l| l.port == port && l.address.is_loopback());
        assert!(holds(scanner.look().0));
        let buffers = (scanner.text.capacity(), scanner.text.as_ptr());
        // Others on this machine come and go; this one stays.
        assert!((0..3).all(|_| holds(scanner.look().0)));
        assert_eq!((scanner.text.capacity(), scanner.text.as_ptr()), buffers);
        drop(socket);
        assert!(!holds(scanner.look().0));
        Ok(())
    }
}
