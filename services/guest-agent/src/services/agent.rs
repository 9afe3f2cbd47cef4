//! wrenn.agent.v1.AgentService: the host gives the guest its identity.

use super::Agent;
use crate::connections::ConnectionId;
use crate::env::{self, Env};
use crate::fault::{Fault, Outcome, Reason};
use crate::machine;
use crate::ports::AllServed;
use crate::proto::wrenn::agent::v1::__buffa::oneof::watch_ports_response::Change;
use crate::proto::wrenn::agent::v1::{
    AgentService, DrainRequest, DrainResponse, InitRequest, InitResponse, Port, QuiesceRequest, QuiesceResponse,
    WatchPortsRequest, WatchPortsResponse,
};
use crate::settings::Identity;
use crate::timing::Timing;
use crate::users::Accounts;
use buffa_types::google::protobuf::Timestamp;
use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use futures::StreamExt as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENV_ENTRIES: usize = 1024;
const ENV_BYTES: usize = 256 * 1024;
const NAMESERVERS: usize = 3;
const DRAIN_SECONDS: u64 = 60;
const TOKEN_CHARS: RangeInclusive<usize> = 32..=128;
/// A guest whose clock is that far behind has been frozen.
const FROZEN: Duration = Duration::from_secs(1);

pub struct AgentServiceHandler(pub Arc<Agent>);

/// An Init that can be carried out.
struct Orders {
    identity: Identity,
    hostname: String,
    time: Option<Duration>,
    nameservers: Vec<IpAddr>,
    entropy: Vec<u8>,
    url_secret: String,
}

impl Orders {
    fn checked(request: InitRequest) -> Outcome<Self> {
        let bad = |reason: Reason, message: String| Err(Fault::new(reason, message));
        if !is_sandbox_id(&request.sandbox_id) {
            return bad(Reason::BadSandboxId, "sandbox_id must be cl- and 25 characters of 0-9a-z".into());
        }
        if !is_template_id(&request.template_id) {
            return bad(Reason::BadTemplateId, "template_id must be 1 to 128 characters of A-Za-z0-9._-".into());
        }
        let hostname = if request.hostname.is_empty() { "wrenn".to_owned() } else { request.hostname };
        if !is_host_label(&hostname) {
            return bad(Reason::BadHostname, format!("hostname {hostname:?} is not a label of RFC 1123"));
        }
        if request.entropy.len() > machine::SEED_BYTES {
            return bad(Reason::BadEntropy, format!("entropy has at most {} bytes", machine::SEED_BYTES));
        }
        let token = request.access_token;
        if !(token.is_empty() || TOKEN_CHARS.contains(&token.len())) || token.bytes().any(|b| !b.is_ascii_graphic()) {
            return bad(Reason::BadAccessToken, "access_token must be 32 to 128 printable characters".into());
        }
        let env: Env = request.env.into_iter().collect();
        check_env(&env)?;
        check_default_user(&request.default_user)?;
        check_default_cwd(&request.default_cwd)?;
        Ok(Self {
            hostname,
            time: request.time.into_option().map(|t| wall_clock(&t)).transpose()?,
            nameservers: nameservers(&request.nameservers)?,
            entropy: request.entropy,
            url_secret: token,
            identity: Identity {
                sandbox_id: request.sandbox_id,
                template_id: request.template_id,
                env,
                default_user: request.default_user,
                default_cwd: request.default_cwd,
            },
        })
    }

    fn apply_to_machine(&self) -> Outcome<()> {
        machine::set_resolver(&self.nameservers)?;
        if let Some(time) = self.time {
            machine::set_clock(time)?;
        }
        let now = machine::now().as_nanos().to_ne_bytes();
        machine::reseed(&[self.identity.sandbox_id.as_bytes(), &now, &self.entropy].concat())?;
        machine::set_hostname(&self.hostname)
    }
}

fn is_sandbox_id(id: &str) -> bool {
    id.strip_prefix("cl-")
        .is_some_and(|rest| rest.len() == 25 && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()))
}

fn is_template_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_host_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

pub fn check_env(env: &Env) -> Outcome<()> {
    env::validate(env)?;
    let bytes: usize = env.iter().map(|(k, v)| k.len() + v.len()).sum();
    if env.len() > ENV_ENTRIES || bytes > ENV_BYTES {
        let message = format!("the environment is larger than {ENV_ENTRIES} entries or {ENV_BYTES} bytes");
        return Err(Fault::new(Reason::BadEnv, message));
    }
    Ok(())
}

pub fn check_default_user(name: &str) -> Outcome<()> {
    if name.is_empty() { Ok(()) } else { Accounts::read().find(name).map(drop) }
}

pub fn check_default_cwd(cwd: &str) -> Outcome<()> {
    if cwd.is_empty() || (cwd.starts_with('/') && Path::new(cwd).is_dir()) {
        return Ok(());
    }
    Err(Fault::new(Reason::BadCwd, format!("default_cwd {cwd:?} is not the absolute path of a directory")))
}

pub fn wall_clock(time: &Timestamp) -> Outcome<Duration> {
    match (u64::try_from(time.seconds), u32::try_from(time.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Fault::new(Reason::BadTime, "time is before 1970 or has an invalid fraction")),
    }
}

fn drain_limit(given: Option<buffa_types::google::protobuf::Duration>) -> Outcome<Duration> {
    let limit = given.unwrap_or_default();
    match (u64::try_from(limit.seconds), u32::try_from(limit.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 && seconds < DRAIN_SECONDS => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(Fault::new(Reason::BadTime, format!("limit is not a duration below {DRAIN_SECONDS} s"))),
    }
}

fn nameservers(given: &[String]) -> Outcome<Vec<IpAddr>> {
    let bad = |message: String| Fault::new(Reason::BadNameserver, message);
    if given.len() > NAMESERVERS {
        return Err(bad(format!("there are more than {NAMESERVERS} nameservers")));
    }
    if given.is_empty() {
        return Ok(machine::PUBLIC_RESOLVERS.to_vec());
    }
    given.iter().map(|s| s.parse().map_err(|_| bad(format!("nameserver {s:?} is not an IP address")))).collect()
}

/// What has to be told to who knows `before`; a port that is bound otherwise now closes and opens.
fn changes(before: &AllServed, now: &AllServed) -> Vec<WatchPortsResponse> {
    let missing_in = |others: &AllServed, all: &AllServed| -> Vec<Port> {
        let missing = all.iter().filter(|s| !others.contains(s));
        missing
            .map(|s| Port { port: s.port.into(), is_loopback_only: s.loopback.is_some(), ..Default::default() })
            .collect()
    };
    let closed = missing_in(now, before).into_iter().map(|port| Change::Closed(Box::new(port)));
    let opened = missing_in(before, now).into_iter().map(|port| Change::Opened(Box::new(port)));
    closed.chain(opened).map(|change| WatchPortsResponse { change: Some(change), ..Default::default() }).collect()
}

impl AgentService for AgentServiceHandler {
    async fn init(&self, ctx: RequestContext, request: ServiceRequest<'_, InitRequest>) -> ServiceResult<InitResponse> {
        let Agent { settings, connections, processes, .. } = &*self.0;
        let orders = Orders::checked(request.to_owned_message())?;
        let was_frozen = orders.time.is_some_and(|time| time > machine::now() + FROZEN);
        let timing = ctx.extensions().get::<Timing>();
        let begun = Instant::now();
        settings.write_ids(&orders.identity)?;
        if settings.owns_machine {
            orders.apply_to_machine()?;
            if orders.identity.sandbox_id != settings.identity().sandbox_id {
                machine::renew_machine_id();
            }
        }
        settings.update(|identity| *identity = orders.identity);
        settings.set_url_secret(orders.url_secret);
        if was_frozen && let Some(caller) = ctx.extensions().get::<ConnectionId>() {
            connections.drop_all_but(*caller);
        }
        timing.inspect(|timing| timing.add("identity", begun));
        let begun = Instant::now();
        processes.freezer.release();
        timing.inspect(|timing| timing.add("release", begun));
        Response::ok(InitResponse {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: machine::boot_id(),
            ..Default::default()
        })
    }

    async fn drain(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, DrainRequest>,
    ) -> ServiceResult<DrainResponse> {
        let limit = drain_limit(request.to_owned_message().limit.into_option())?;
        let left = self.0.transfers.drain(limit).await;
        Response::ok(DrainResponse { transfers_left: u32::try_from(left).unwrap_or(u32::MAX), ..Default::default() })
    }

    async fn quiesce(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, QuiesceRequest>,
    ) -> ServiceResult<QuiesceResponse> {
        let timing = ctx.extensions().get::<Timing>();
        let begun = Instant::now();
        self.0.processes.freezer.hold().await?;
        timing.inspect(|timing| timing.add("freeze", begun));
        if let Some(caller) = ctx.extensions().get::<ConnectionId>() {
            self.0.connections.drop_all_but(*caller);
        }
        Response::ok(QuiesceResponse::default())
    }

    async fn watch_ports(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, WatchPortsRequest>,
    ) -> ServiceResult<ServiceStream<WatchPortsResponse>> {
        let mut ports = self.0.ports.watch();
        ports.mark_changed();
        // A slow client is told the difference once it reads: nothing piles up for it.
        let told = futures::stream::unfold((ports, AllServed::default()), |(mut ports, before)| async move {
            ports.changed().await.ok()?;
            let now = ports.borrow_and_update().clone();
            let changes = changes(&before, &now);
            Some((futures::stream::iter(changes.into_iter().map(Ok)), (ports, now)))
        });
        Ok(Response::stream(told.flatten()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_exactly_the_ids_and_names_that_the_proto_describes() {
        let id = format!("cl-{}", "0az9x".repeat(5));
        assert!(is_sandbox_id(&id));
        for bad in ["", "cl-", &id[1..], &id.to_uppercase(), &format!("{id}0"), "../../etc/passwd"] {
            assert!(!is_sandbox_id(bad), "{bad}");
        }
        assert!(is_template_id("debian-12.1_x"));
        assert!(!is_template_id("") && !is_template_id("a/b") && !is_template_id(&"a".repeat(129)));
        assert!(is_host_label("a") && is_host_label("A-9"));
        assert!(
            !is_host_label("-a") && !is_host_label("a-") && !is_host_label("a.b") && !is_host_label(&"a".repeat(64))
        );
    }

    #[test]
    fn falls_back_to_public_resolvers_and_refuses_what_is_no_address() {
        assert_eq!(nameservers(&[]).map(|n| n.len()).ok(), Some(2));
        assert_eq!(nameservers(&["::1".into()]).ok(), Some(vec![IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1])]));
        for bad in [vec!["x".to_owned()], vec!["1.1.1.1".to_owned(); 4], vec!["1.1.1.1\nsearch evil".to_owned()]] {
            assert_eq!(nameservers(&bad).err().map(|f| f.reason), Some(Reason::BadNameserver));
        }
    }
}
