//! A served agent, a scratch directory, and a client that speaks Connect JSON by hand over HTTP/1.1, so
//! that the tests depend on none of the code under test.

mod events;
mod http;
mod refusal;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub use events::{Events, Run};
pub use http::{Answer, Exchange};
pub use refusal::Refusal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For what must happen soon: generous, since the machine may be busy.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Agent {
    child: Child,
    pub address: SocketAddr,
}

impl Agent {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wrenn-agent"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: one system call on integers. An agent must not outlive the test that starts it, however that ends.
        unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)) };
        let mut child = command.spawn().expect("the agent starts");
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("wrenn-agent: listening on ").and_then(|a| a.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("the agent says where it listens, not {line:?}")) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One unary call; any other answer than 200 is the refusal.
    pub fn call(&self, method: &str, request: &Value) -> Result<Value, Refusal> {
        self.call_as("", method, request)
    }

    pub fn call_as(&self, user: &str, method: &str, request: &Value) -> Result<Value, Refusal> {
        let headers = [("content-type", "application/json"), ("authorization", &basic(user))];
        let answer = self.http("POST", &format!("/{method}"), &headers, request.to_string().as_bytes());
        match answer.status {
            200 => Ok(serde_json::from_slice(&answer.body).unwrap()),
            _ => Err(Refusal::of(&serde_json::from_slice(&answer.body).unwrap())),
        }
    }

    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut exchange = Exchange::open(self.address);
        exchange.send(method, path, headers, body);
        exchange.answer()
    }

    /// Starts a process as the default user.
    pub fn start_process(&self, request: &Value) -> Events {
        self.stream("process.Process/Start", request, &[])
    }

    /// `sh -c script`, with nothing on its stdin.
    pub fn sh(&self, script: &str) -> Events {
        self.start_process(&sh(script))
    }

    pub fn stream(&self, method: &str, request: &Value, headers: &[(&str, &str)]) -> Events {
        let mut exchange = Exchange::open(self.address);
        let headers = [&[("content-type", "application/connect+json")], headers].concat();
        exchange.send("POST", &format!("/{method}"), &headers, &envelope(request));
        let (status, is_chunked) = exchange.head();
        assert_eq!((status, is_chunked), (200, true), "streams answer 200 and tell errors at their end");
        Events::of(exchange)
    }

    pub fn listed(&self) -> Vec<Value> {
        let answer = self.call("process.Process/List", &json!({})).unwrap();
        answer["processes"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Agent {
    /// Nothing that a test started outlives it: who loses its parent comes to the agent, until none is left.
    fn drop(&mut self) {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            let children = fs::read_to_string(&path).unwrap_or_default();
            if children.is_empty() {
                break;
            }
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                // SAFETY: the agent, alive and ours, has not reaped this child: at worst it is a zombie.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Resident memory in KiB.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// A file system with little room.
pub struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

/// Mounts it at `dir`, for this thread and what it starts only.
pub fn small_disk(dir: &Path, bytes: u64) -> SmallDisk {
    use nix::mount::{MsFlags, mount};
    const NONE: Option<&str> = None;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("tests run as root");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    let options = format!("size={bytes},nr_inodes=32,mode=0777");
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    SmallDisk(dir.to_owned())
}

pub fn sh(script: &str) -> Value {
    json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] }, "stdin": false })
}

pub fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:")))
}

pub fn envelope(message: &Value) -> Vec<u8> {
    let json = message.to_string().into_bytes();
    [&[0], u32::try_from(json.len()).unwrap().to_be_bytes().as_slice(), &json].concat()
}

/// A directory that goes when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("wrenn-agent-{}-{n}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        // The user `nobody` must be able to come here.
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.at(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// As many times `count` as `WRENN_THOROUGH` says, once unless set.
pub fn thorough(count: usize) -> usize {
    let times = std::env::var("WRENN_THOROUGH").map_or(1, |times| times.parse().expect("WRENN_THOROUGH is a number"));
    assert!(times > 0, "WRENN_THOROUGH is at least 1");
    count * times
}
