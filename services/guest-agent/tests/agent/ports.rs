//! Served ports: told, and made reachable when they are bound to loopback only. Each test has a network of
//! its own, in which 169.254.0.21 is the guest's address.

use crate::support::{Agent, Events, descriptors, eventually};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

const GUEST: &str = "169.254.0.21";

/// This thread and the agent it starts; both end with the test, and the network with them.
fn agent_in_own_network() -> Agent {
    unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
    for args in [["link", "set", "lo", "up"].as_slice(), &["addr", "add", "169.254.0.21/32", "dev", "lo"]] {
        assert!(Command::new("ip").args(args).status().unwrap().success());
    }
    Agent::start_with(&["--forward-on", GUEST])
}

fn guest(port: u16) -> SocketAddr {
    SocketAddr::new(GUEST.parse().unwrap(), port)
}

fn watch(agent: &Agent) -> Events {
    agent.stream("wrenn.agent.v1.AgentService/WatchPorts", &json!({}), &[])
}

fn opened(port: u16, is_loopback_only: bool) -> Value {
    let mut told = json!({ "opened": { "port": port } });
    if is_loopback_only {
        told["opened"]["isLoopbackOnly"] = true.into();
    }
    told
}

fn connected(port: u16) -> TcpStream {
    let mut stream = None;
    eventually("the port is forwarded", || {
        stream = TcpStream::connect(guest(port)).ok();
        stream.is_some()
    });
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(crate::support::SOON)).unwrap();
    stream
}

#[test]
fn tells_the_ports_that_are_served_and_then_each_change() {
    let agent = agent_in_own_network();
    let everywhere = TcpListener::bind("0.0.0.0:8080").unwrap();
    let mut early = watch(&agent);
    assert_eq!(early.next().unwrap().unwrap(), opened(8080, false));
    let mut late = watch(&agent);
    assert_eq!(late.next().unwrap().unwrap(), opened(8080, false));
    let loopback = TcpListener::bind("127.0.0.1:3000").unwrap();
    let six = TcpListener::bind("[::1]:4000").unwrap();
    for events in [&mut early, &mut late] {
        let mut told = vec![events.next().unwrap().unwrap(), events.next().unwrap().unwrap()];
        told.sort_by_key(|t| t["opened"]["port"].as_u64());
        assert_eq!(told, [opened(3000, true), opened(4000, true)], "neither the agent's port nor a forwarder's");
    }
    drop(everywhere);
    assert_eq!(early.next().unwrap().unwrap()["closed"]["port"], 8080);
    drop((loopback, six));
    let told: Vec<_> = (0..2).map(|_| early.next().unwrap().unwrap()).collect();
    assert!(told.iter().all(|t| t["closed"]["isLoopbackOnly"] == true), "{told:?}");
}

#[test]
fn forwards_both_ways_with_half_close_and_only_while_the_port_is_bound() {
    let _agent = agent_in_own_network();
    for address in ["127.0.0.1:3000", "[::1]:3000", "127.0.0.9:3000"] {
        let server = TcpListener::bind(address).unwrap();
        let mut client = connected(3000);
        let (mut served, peer) = server.accept().unwrap();
        assert!(peer.ip().is_loopback());
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = String::new();
        served.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question", "the server sees the end of what was sent");
        served.write_all(b"answer").unwrap();
        drop(server);
        eventually("the forwarder is gone", || TcpStream::connect(guest(3000)).is_err());
        served.write_all(b" in two parts").unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer in two parts", "what stands goes on although the port has closed");
    }
}

#[test]
fn holds_back_a_sender_whose_receiver_does_not_read_and_loses_no_byte() {
    let _agent = agent_in_own_network();
    let server = TcpListener::bind("127.0.0.1:3000").unwrap();
    let mut client = connected(3000);
    let (mut served, _) = server.accept().unwrap();
    client.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let block = vec![7; 1 << 20];
    let mut sent = 0;
    // A refused write says that nothing more is taken.
    while let Ok(n) = client.write(&block) {
        sent += n;
        assert!(sent < 64 << 20, "{sent} bytes went to nobody");
    }
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    served.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent);
}

#[test]
fn leaves_ports_alone_that_can_be_reached_already() {
    let agent = agent_in_own_network();
    let mut events = watch(&agent);
    let (_everywhere, _guest) = (TcpListener::bind("0.0.0.0:8080").unwrap(), TcpListener::bind(guest(9090)).unwrap());
    // In this order: it is never bound to loopback alone.
    let _both = (TcpListener::bind(guest(9191)).unwrap(), TcpListener::bind("127.0.0.1:9191").unwrap());
    let mut told: Vec<_> = (0..3).map(|_| events.next().unwrap().unwrap()).collect();
    told.sort_by_key(|t| t["opened"]["port"].as_u64());
    assert_eq!(told, [opened(8080, false), opened(9090, false), opened(9191, false)]);
    let listeners = std::fs::read_to_string(format!("/proc/{}/net/tcp", agent.pid())).unwrap();
    let count = listeners.lines().filter(|l| l.split_ascii_whitespace().nth(3) == Some("0A")).count();
    assert_eq!(count, 5, "these four and the agent's:\n{listeners}");
}

#[test]
fn a_client_that_leaves_frees_the_forwarded_connection() {
    let agent = agent_in_own_network();
    let server = TcpListener::bind("127.0.0.1:3000").unwrap();
    let _staying = (connected(3000), server.accept().unwrap());
    let open = || descriptors(agent.pid());
    let mut before = 0;
    eventually("only that one is left of the attempts", || {
        before = open();
        std::fs::read_to_string(format!("/proc/{}/net/tcp", agent.pid())).unwrap().matches(" 01 ").count() == 4
    });
    let pairs: Vec<_> = (0..20).map(|_| (connected(3000), server.accept().unwrap())).collect();
    eventually("all are handed on", || open() >= before + 40);
    drop(pairs);
    eventually("all descriptors are closed", || open() <= before);
}
