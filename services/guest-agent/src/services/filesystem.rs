//! filesystem.Filesystem, as filesystem.proto promises it.

use super::{Agent, ping_interval};
use crate::fault::{Fault, Outcome, Reason};
use crate::files::identity::as_user;
use crate::files::tree;
use crate::files::watch::{Notice, Options, Watch};
use crate::paths;
use crate::proto::filesystem::__buffa::oneof::watch_dir_response::Event as WireEvent;
use crate::proto::filesystem::watch_dir_response::{KeepAlive, StartEvent};
use crate::proto::filesystem::{
    CreateWatcherRequest, CreateWatcherResponse, Filesystem, GetWatcherEventsRequest, GetWatcherEventsResponse,
    ListDirRequest, ListDirResponse, MakeDirRequest, MakeDirResponse, MoveRequest, MoveResponse, RemoveRequest,
    RemoveResponse, RemoveWatcherRequest, RemoveWatcherResponse, StatRequest, StatResponse, WatchDirRequest,
    WatchDirResponse,
};
use crate::users::User;
use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use futures::StreamExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Behind it waits the kernel's own queue of 16,384.
const BUFFER_EVENTS: usize = 256;

pub struct FilesystemService(pub Arc<Agent>);

impl FilesystemService {
    fn caller(&self, ctx: &RequestContext) -> Outcome<User> {
        self.0.settings.caller(ctx.headers())
    }
}

/// Of something to be changed: the home must be named to be meant.
fn named(path: &str, user: &User) -> Outcome<PathBuf> {
    if path.is_empty() {
        return Err(Fault::new(Reason::BadPath, "the path is empty"));
    }
    paths::resolve(path, user)
}

fn wire(event: impl Into<WireEvent>) -> WatchDirResponse {
    WatchDirResponse { event: Some(event.into()), ..Default::default() }
}

impl Filesystem for FilesystemService {
    async fn stat(&self, ctx: RequestContext, request: ServiceRequest<'_, StatRequest>) -> ServiceResult<StatResponse> {
        let user = self.caller(&ctx)?;
        let path = paths::resolve(request.path, &user)?;
        let entry = as_user(&user, move || tree::stat(&path)).await?;
        Response::ok(StatResponse { entry: entry.into(), ..Default::default() })
    }

    async fn make_dir(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, MakeDirRequest>,
    ) -> ServiceResult<MakeDirResponse> {
        let user = self.caller(&ctx)?;
        let path = named(request.path, &user)?;
        let entry = as_user(&user, move || tree::make_dir(&path)).await?;
        Response::ok(MakeDirResponse { entry: entry.into(), ..Default::default() })
    }

    async fn r#move(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, MoveRequest>,
    ) -> ServiceResult<MoveResponse> {
        let user = self.caller(&ctx)?;
        let (source, destination) = (named(request.source, &user)?, named(request.destination, &user)?);
        let entry = as_user(&user, move || tree::move_entry(&source, &destination)).await?;
        Response::ok(MoveResponse { entry: entry.into(), ..Default::default() })
    }

    async fn list_dir(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListDirRequest>,
    ) -> ServiceResult<ListDirResponse> {
        let user = self.caller(&ctx)?;
        let path = paths::resolve(request.path, &user)?;
        let depth = request.depth.max(1);
        if depth > tree::MAX_DEPTH {
            let message = format!("a depth of {depth} is more than {}", tree::MAX_DEPTH);
            return Err(Fault::new(Reason::BadDepth, message).into());
        }
        let entries = as_user(&user, move || tree::list(&path, depth)).await?;
        Response::ok(ListDirResponse { entries, ..Default::default() })
    }

    async fn remove(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, RemoveRequest>,
    ) -> ServiceResult<RemoveResponse> {
        let user = self.caller(&ctx)?;
        let path = named(request.path, &user)?;
        as_user(&user, move || tree::remove(&path)).await?;
        Response::ok(RemoveResponse::default())
    }

    async fn watch_dir(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, WatchDirRequest>,
    ) -> ServiceResult<ServiceStream<WatchDirResponse>> {
        let user = self.caller(&ctx)?;
        let path = paths::resolve(request.path, &user)?;
        let options = Options { recursive: request.recursive, include_entry: request.include_entry };
        let (sender, receiver) = mpsc::channel(BUFFER_EVENTS);
        let watch = Watch::start(&user, path, options, move |notice| sender.blocking_send(notice).is_ok()).await?;
        let ping_every = ping_interval(&ctx);
        let rest = futures::stream::unfold(Some((receiver, watch)), move |state| async move {
            let (mut receiver, watch) = state?;
            let lost = Fault::new(Reason::WatchOverflow, "events were lost because they were read too slowly");
            match tokio::time::timeout(ping_every, receiver.recv()).await {
                Ok(Some(Notice::Event(event))) => Some((Ok(wire(*event)), Some((receiver, watch)))),
                Ok(Some(Notice::Lost)) => Some((Err(lost.into()), None)),
                Ok(None) => Some((Err(Fault::new(Reason::Internal, "the watch broke").into()), None)),
                Err(_silence) => Some((Ok(wire(KeepAlive::default())), Some((receiver, watch)))),
            }
        });
        Ok(Response::stream(futures::stream::iter([Ok(wire(StartEvent::default()))]).chain(rest)))
    }

    async fn create_watcher(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, CreateWatcherRequest>,
    ) -> ServiceResult<CreateWatcherResponse> {
        let user = self.caller(&ctx)?;
        let path = paths::resolve(request.path, &user)?;
        let options = Options { recursive: request.recursive, include_entry: request.include_entry };
        let watcher_id = self.0.watchers.create(&user, path, options).await?;
        Response::ok(CreateWatcherResponse { watcher_id, ..Default::default() })
    }

    async fn get_watcher_events(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, GetWatcherEventsRequest>,
    ) -> ServiceResult<GetWatcherEventsResponse> {
        let events = self.0.watchers.events(request.watcher_id)?;
        Response::ok(GetWatcherEventsResponse { events, ..Default::default() })
    }

    async fn remove_watcher(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, RemoveWatcherRequest>,
    ) -> ServiceResult<RemoveWatcherResponse> {
        self.0.watchers.remove(request.watcher_id)?;
        Response::ok(RemoveWatcherResponse::default())
    }
}
