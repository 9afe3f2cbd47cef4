//! process.Process, as process.proto promises it.

use super::{Agent, number, ping_interval};
use crate::env;
use crate::fault::{Fault, Outcome, Reason};
use crate::paths;
use crate::process::children::Exit;
use crate::process::fanout::{Channel, Event, Fanout, Picture, Subscription};
use crate::process::input::Bytes;
use crate::process::launch::Launch;
use crate::process::log::Gone;
use crate::process::pty::Size;
use crate::process::spawn::Command;
use crate::process::table::{Running, Selector};
use crate::proto::process::__buffa::oneof::process_event::Event as WireEvent;
use crate::proto::process::__buffa::oneof::process_event::data_event::Output;
use crate::proto::process::__buffa::oneof::process_input::Input as WireInput;
use crate::proto::process::__buffa::oneof::process_selector::Selector as WireSelector;
use crate::proto::process::__buffa::oneof::stream_input_request::Event as WireStreamInput;
use crate::proto::process::process_event::{DataEvent, EndEvent, KeepAlive, ScreenEvent, StartEvent};
use crate::proto::process::pty;
use crate::proto::process::{
    CloseStdinRequest, CloseStdinResponse, ConnectRequest, ConnectResponse, ListRequest, ListResponse, PTY, Process,
    ProcessEvent, ProcessInfo, ProcessInput, ProcessSelector, SendInputRequest, SendInputResponse, SendSignalRequest,
    SendSignalResponse, StartRequest, StartResponse, StreamInputRequest, StreamInputResponse, UpdateRequest,
    UpdateResponse,
};
use crate::users::User;
use connectrpc::{ConnectError, InboundStream, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use futures::{Stream, StreamExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const TAG_BYTES: usize = 256;

pub struct ProcessService(pub Arc<Agent>);

impl ProcessService {
    fn find(&self, given: Option<ProcessSelector>) -> Outcome<Arc<Running>> {
        self.0.processes.find(&selector(given)?)
    }

    fn launch(&self, ctx: &RequestContext, request: StartRequest) -> Outcome<Launch> {
        let user = self.0.settings.caller(ctx.headers())?;
        let identity = self.0.settings.identity();
        let config = request.process.into_option().unwrap_or_default();
        if request.tag.as_ref().is_some_and(|tag| tag.len() > TAG_BYTES) {
            return Err(Fault::new(Reason::BadTag, format!("a tag has at most {TAG_BYTES} bytes")));
        }
        let terminal = request.pty.into_option().map(size).transpose()?;
        let asked = config.envs.clone().into_iter().collect();
        env::validate(&asked)?;
        let command = Command {
            program: config.cmd.clone(),
            args: config.args.clone(),
            env: env::compose(&user, &identity, asked, terminal.is_some()),
            cwd: cwd(config.cwd.as_deref().unwrap_or_default(), &identity.default_cwd, &user)?,
            user,
        };
        Ok(Launch {
            command,
            tag: request.tag,
            terminal,
            wants_stdin: request.stdin.unwrap_or(true),
            time_limit: number(ctx, "connect-timeout-ms").map(Duration::from_millis),
            config,
        })
    }

    async fn write(&self, running: &Running, input: Option<ProcessInput>) -> Outcome<()> {
        let bytes = match input.and_then(|i| i.input) {
            Some(WireInput::Stdin(bytes)) => Bytes::Stdin(bytes),
            Some(WireInput::Pty(bytes)) => Bytes::Pty(bytes),
            None => return Err(Fault::new(Reason::BadInput, "the input is neither stdin nor pty")),
        };
        running.input.write(&bytes, &running.exited).await
    }
}

fn selector(given: Option<ProcessSelector>) -> Outcome<Selector> {
    match given.and_then(|s| s.selector) {
        Some(WireSelector::Pid(pid)) => Ok(Selector::Pid(pid)),
        Some(WireSelector::Tag(tag)) => Ok(Selector::Tag(tag)),
        None => Err(Fault::new(Reason::BadSelector, "a process must be named by pid or tag")),
    }
}

/// A guest without the user's home is still a guest: processes then start at the root.
fn cwd(asked: &str, default: &str, user: &User) -> Outcome<PathBuf> {
    let given = if asked.is_empty() { default } else { asked };
    if given.is_empty() && !user.home.is_dir() {
        return Ok("/".into());
    }
    paths::resolve(given, user).map_err(|f| Fault::new(Reason::BadCwd, f.message))
}

fn size(pty: PTY) -> Outcome<Size> {
    let asked = pty.size.into_option().unwrap_or_default();
    Size::checked(asked.cols, asked.rows)
}

/// What a Connect sees first, if anything, and what it sees after that.
fn joined(fanout: &Arc<Fanout>, request: &ConnectRequest) -> Outcome<(Option<Picture>, Subscription)> {
    if request.screen && !fanout.is_terminal() {
        return Err(Fault::new(Reason::NoPty, "the process has no terminal to show"));
    }
    if request.screen
        && request.after_sequence.is_none()
        && let Some((picture, subscription)) = fanout.view()
    {
        return Ok((Some(picture), subscription));
    }
    let subscription = fanout.subscribe(request.after_sequence).map_err(|Gone { oldest }| {
        let message = format!("what came after that sequence is not kept; the oldest that is kept is {oldest}");
        Fault::new(Reason::ReplayGone, message).with("oldest_sequence", oldest)
    })?;
    Ok((None, subscription))
}

/// The start, the picture, then all that the subscription brings, up to and with the end.
fn events(
    pid: u32,
    picture: Option<Picture>,
    subscription: Subscription,
    ping_every: Duration,
) -> impl Stream<Item = Result<ProcessEvent, ConnectError>> + Send {
    let start = wire(StartEvent { pid, ..Default::default() });
    let first = std::iter::once(start).chain(picture.map(|p| numbered(p.sequence, screen(p)))).map(Ok);
    let rest = futures::stream::unfold(Some(subscription), move |subscription| async move {
        let mut subscription = subscription?;
        match tokio::time::timeout(ping_every, subscription.recv()).await {
            Ok((n, Event::Data(channel, bytes))) => Some((Ok(numbered(n, data(channel, bytes))), Some(subscription))),
            Ok((n, Event::End(exit))) => Some((Ok(numbered(n, end(exit))), None)),
            Err(_silence) => Some((Ok(wire(KeepAlive::default())), Some(subscription))),
        }
    });
    futures::stream::iter(first).chain(rest)
}

fn wire(event: impl Into<WireEvent>) -> ProcessEvent {
    ProcessEvent { event: Some(event.into()), ..Default::default() }
}

fn numbered(sequence: u64, event: impl Into<WireEvent>) -> ProcessEvent {
    ProcessEvent { sequence, ..wire(event) }
}

fn screen(Picture { size, contents, .. }: Picture) -> ScreenEvent {
    let size = pty::Size { cols: size.cols.into(), rows: size.rows.into(), ..Default::default() };
    ScreenEvent { size: size.into(), contents, ..Default::default() }
}

fn end(exit: Exit) -> EndEvent {
    let (exit_code, status) = (exit.code(), exit.describe());
    let error = (exit_code != 0).then(|| status.clone());
    EndEvent { exit_code, exited: matches!(exit, Exit::Code(_)), status, error, ..Default::default() }
}

fn data(channel: Channel, bytes: Vec<u8>) -> DataEvent {
    let output = match channel {
        Channel::Stdout => Output::Stdout(bytes),
        Channel::Stderr => Output::Stderr(bytes),
        Channel::Pty => Output::Pty(bytes),
    };
    DataEvent { output: Some(output), ..Default::default() }
}

impl Process for ProcessService {
    async fn list(&self, _: RequestContext, _: ServiceRequest<'_, ListRequest>) -> ServiceResult<ListResponse> {
        let info = |r: &Arc<Running>| ProcessInfo {
            config: r.config.clone().into(),
            pid: r.pid(),
            tag: r.tag.clone(),
            has_pty: r.terminal().is_some(),
            ..Default::default()
        };
        let processes = self.0.processes.list().iter().map(info).collect();
        Response::ok(ListResponse { processes, ..Default::default() })
    }

    async fn connect(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ConnectRequest>,
    ) -> ServiceResult<ServiceStream<ConnectResponse>> {
        let request = request.to_owned_message();
        let (pid, fanout) = self.0.processes.find_to_read(&selector(request.process.as_option().cloned())?)?;
        let (picture, subscription) = joined(&fanout, &request)?;
        let events = events(pid, picture, subscription, ping_interval(&ctx));
        Ok(Response::stream(
            events.map(|event| event.map(|e| ConnectResponse { event: e.into(), ..Default::default() })),
        ))
    }

    async fn start(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, StartRequest>,
    ) -> ServiceResult<ServiceStream<StartResponse>> {
        let launch = self.launch(&ctx, request.to_owned_message())?;
        let (running, subscription) = self.0.processes.start(launch).await?;
        let events = events(running.pid(), None, subscription, ping_interval(&ctx));
        Ok(Response::stream(events.map(|event| event.map(|e| StartResponse { event: e.into(), ..Default::default() }))))
    }

    async fn update(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, UpdateRequest>,
    ) -> ServiceResult<UpdateResponse> {
        let request = request.to_owned_message();
        let running = self.find(request.process.into_option())?;
        if let Some(pty) = request.pty.into_option() {
            running.resize(size(pty)?)?;
        }
        Response::ok(UpdateResponse::default())
    }

    async fn stream_input(
        &self,
        _: RequestContext,
        mut requests: InboundStream<StreamInputRequest>,
    ) -> ServiceResult<StreamInputResponse> {
        let mut target = None;
        while let Some(message) = requests.next().await {
            match (message?.to_owned_message().event, &target) {
                (Some(WireStreamInput::Start(start)), None) => target = Some(self.find(start.process.into_option())?),
                (Some(WireStreamInput::Data(data)), Some(running)) => {
                    self.write(running, data.input.into_option()).await?;
                }
                (Some(WireStreamInput::Keepalive(_)), Some(_)) => {}
                _ => return Err(Fault::new(Reason::BadInput, "the first message, and only it, must be start").into()),
            }
        }
        Response::ok(StreamInputResponse::default())
    }

    async fn send_input(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, SendInputRequest>,
    ) -> ServiceResult<SendInputResponse> {
        let request = request.to_owned_message();
        let running = self.find(request.process.into_option())?;
        self.write(&running, request.input.into_option()).await?;
        Response::ok(SendInputResponse::default())
    }

    async fn send_signal(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, SendSignalRequest>,
    ) -> ServiceResult<SendSignalResponse> {
        let request = request.to_owned_message();
        let number = request.signal.to_i32();
        if !(1..=64).contains(&number) {
            return Err(Fault::new(Reason::BadSignal, format!("signal {number} is not within 1 to 64")).into());
        }
        let running = self.find(request.process.into_option())?;
        match request.foreground {
            true => self.0.processes.signal_foreground(&running, number)?,
            false => self.0.processes.signal(&running, number)?,
        }
        Response::ok(SendSignalResponse::default())
    }

    async fn close_stdin(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, CloseStdinRequest>,
    ) -> ServiceResult<CloseStdinResponse> {
        let running = self.find(request.to_owned_message().process.into_option())?;
        running.input.close(&running.exited).await?;
        Response::ok(CloseStdinResponse::default())
    }
}
