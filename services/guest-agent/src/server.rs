//! One port for everything: Connect, gRPC, gRPC-Web and a little plain HTTP, over HTTP/1.1 and h2c.

use crate::connections::{ConnectionId, tune};
use crate::console::say;
use crate::memory;
use crate::plain;
use crate::process::freezer::Freezer;
use crate::process::table::Processes;
use crate::services::{Agent, routes};
use crate::settings::Settings;
use crate::timing::{SERVER_TIMING, Timing};
use crate::transfer;
use connectrpc::{ConnectRpcBody, ConnectRpcService};
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tower_service::Service as _;

const PORT: u16 = 49983;
/// Where the host reaches every guest.
const GUEST: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 21);
const RUN_DIR: &str = "/run/wrenn";
/// Open at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// Of one connection: each running command that is watched is one.
const STREAMS: u32 = 1024;
/// Of one request's names and values; HTTP/1.1 counts its whole head, and allows what may be unsent.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
/// That wait in one connection (HTTP/1.1) or stream (HTTP/2) for a client that does not read.
const UNSENT_BYTES: usize = 128 * 1024;
/// That one stream of HTTP/2 may have unread, and all streams of one connection. Streams that nobody reads, such as keys for
/// a program that takes none, fill only their own window: the connection's is that of 64 of them.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// For a new connection to ask for something.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// For each later request to be there, on a connection that does nothing else meanwhile.
const NEXT_REQUEST: Duration = Duration::from_secs(120);
/// Between two questions whether the other side of HTTP/2 lives, and for its answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(60);

pub type Body = Either<ConnectRpcBody, transfer::Body>;

async fn serve(stream: TcpStream, id: ConnectionId, rpc: ConnectRpcService, agent: Arc<Agent>) {
    tune(&stream);
    let asked = Arc::new(Notify::new());
    let asking = asked.clone();
    let service = service_fn(move |request| {
        asking.notify_one();
        answer(request, id, rpc.clone(), agent.clone())
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    let mut http1 = server.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST).max_headers(HEADERS).max_buf_size(UNSENT_BYTES);
    let mut http2 = server.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_PATIENCE);
    http2.max_concurrent_streams(STREAMS).max_header_list_size(HEAD_BYTES as u32).max_send_buf_size(UNSENT_BYTES);
    http2.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    // How a connection ends is its client's business.
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = &mut connection => {}
        () = asked.notified() => drop(connection.await),
        () = tokio::time::sleep(FIRST_REQUEST) => {}
    }
}

async fn answer(
    mut request: Request<Incoming>,
    connection: ConnectionId,
    mut rpc: ConnectRpcService,
    agent: Arc<Agent>,
) -> Result<Response<Body>, Infallible> {
    if let Some(refusal) = plain::refuse(&request, &agent.settings) {
        return Ok(refusal.map(|body| Either::Right(Either::Left(body))));
    }
    if plain::is_plain(&request) {
        let answer = plain::answer(request, &agent.settings).await;
        return Ok(answer.map(|body| Either::Right(Either::Left(body))));
    }
    if request.uri().path() == transfer::PATH {
        return Ok(transfer::answer(request, &agent).await.map(Either::Right));
    }
    request.extensions_mut().insert(connection);
    let timing = Timing::wanted(request.headers());
    if let Some(timing) = &timing {
        request.extensions_mut().insert(timing.clone());
    }
    let mut answer = rpc.call(request).await?.map(Either::Left);
    if let Some(timing) = timing {
        answer.headers_mut().insert(SERVER_TIMING, timing.header());
    }
    Ok(answer)
}

/// In a guest: on all interfaces, owning the machine.
pub fn run_in_guest() -> Result<(), String> {
    memory::come_first();
    let settings = Settings::new(true, Some(PathBuf::from(RUN_DIR)));
    let processes = Processes::new(Freezer::in_guest());
    run(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)), Some(GUEST.into()), settings, processes)
}

/// For tests on a host: leaves the machine as it is. Says where it listens, since port 0 means any.
/// Loopback ports are forwarded only if there is a `guest` address to do it on.
pub fn run_on_host(address: SocketAddr, guest: Option<IpAddr>) -> Result<(), String> {
    // Orphans come to the agent here as they come to PID 1 in a guest.
    nix::sys::prctl::set_child_subreaper(true).map_err(|e| format!("become a reaper: {e}"))?;
    run(address, guest, Settings::new(false, None), Processes::new(Freezer::absent()))
}

fn run(address: SocketAddr, guest: Option<IpAddr>, settings: Settings, processes: Processes) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let processes = Arc::new(processes);
        reap_in_background(processes.clone()).map_err(|e| format!("watch for ended processes: {e}"))?;
        let (connections, watchers, ports, transfers) = Default::default();
        let agent = Arc::new(Agent { settings, processes, connections, watchers, ports, transfers });
        let rpc = routes(&agent)?;
        let listener = TcpListener::bind(address).await.map_err(|e| format!("listen on {address}: {e}"))?;
        let listening = listener.local_addr().map_err(|e| e.to_string())?;
        agent.ports.follow(listening.port(), guest, agent.connections.clone());
        say(format_args!("listening on {listening}"));
        accept(listener, rpc, agent).await
    })
}

async fn accept(listener: TcpListener, rpc: ConnectRpcService, agent: Arc<Agent>) -> ! {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => agent.connections.serve(|id| {
                let served = serve(stream, id, rpc.clone(), agent.clone());
                async move {
                    served.await;
                    drop(slot);
                }
            }),
            // Out of descriptors, most likely: some come back when processes end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn reap_in_background(processes: Arc<Processes>) -> std::io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    tokio::spawn(async move {
        // Signals that come together are one: reap takes all there are.
        while ended.recv().await.is_some() {
            processes.children.reap();
        }
    });
    Ok(())
}
