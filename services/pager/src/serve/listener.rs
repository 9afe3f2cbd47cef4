//! The pager's two sockets: one VM hands its memory over on the first, anybody of its uid reads counters on the second.

use super::counters::Counters;
use super::fatal::Fatal;
use super::messages::readable;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A VMM that has not come by then will not come: whoever started us is gone.
const COMES_WITHIN: Duration = Duration::from_secs(60);

pub struct Listener {
    path: PathBuf,
    socket: UnixListener,
}

impl Listener {
    pub fn bind(path: &Path) -> Result<Listener, Fatal> {
        Ok(Listener { path: path.to_owned(), socket: bind(path)? })
    }

    /// One VM, and never another: the socket is gone afterwards.
    pub fn accept(self) -> Result<UnixStream, Fatal> {
        if !readable(self.socket.as_fd(), Instant::now() + COMES_WITHIN)? {
            return Err(Fatal::handshake(format!("no VM came within {} s", COMES_WITHIN.as_secs())));
        }
        let (stream, _) = self.socket.accept().map_err(|error| Fatal::internal(format!("accept: {error}")))?;
        Ok(stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

pub struct StatsListener {
    path: PathBuf,
    socket: UnixListener,
}

impl StatsListener {
    pub fn bind(beside: &Path) -> Result<StatsListener, Fatal> {
        let mut path = beside.as_os_str().to_owned();
        path.push(".stats");
        let path = PathBuf::from(path);
        let socket = bind(&path)?;
        socket.set_nonblocking(true).map_err(|error| Fatal::internal(format!("{}: {error}", path.display())))?;
        Ok(StatsListener { path, socket })
    }

    /// Answers one who waits. The answer fits a socket's buffer: nobody can hold the pager up.
    pub fn answer(&self, counters: &Counters) {
        let answered = self.socket.accept().and_then(|(mut stream, _)| {
            stream.set_nonblocking(true)?;
            let mut line = serde_json::to_vec(counters)?;
            line.push(b'\n');
            stream.write_all(&line)
        });
        if let Err(error) = answered
            && error.kind() != io::ErrorKind::WouldBlock
        {
            eprintln!("wrenn-pager: counters were not read: {error}");
        }
    }
}

impl AsFd for StatsListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for StatsListener {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// For its own uid only.
fn bind(path: &Path) -> Result<UnixListener, Fatal> {
    let bound = || {
        // One that a killed pager of the same VM left.
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let socket = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    };
    bound().map_err(|error: io::Error| Fatal::internal(format!("{}: {error}", path.display())))
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("wrenn-pager: {}: {error}", path.display());
    }
}
